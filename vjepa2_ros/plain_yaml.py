# SPDX-License-Identifier: Apache-2.0
"""YAML from others: plain values, no key twice, and no aliases of aliases."""

from __future__ import annotations

from collections import Counter
from typing import Any

import yaml


def load(text: str) -> Any:
    """Plain values of a YAML text.

    Raises:
        ValueError: it is not valid, gives a key twice, holds itself, or has an alias of what has
            aliases itself: some lines of those stand for more than any memory holds.
    """
    try:
        return yaml.load(text, _Loader)
    except _ERRORS as error:
        raise ValueError(" ".join(str(error).split())[:200]) from None


# PyYAML raises anything at all where a tag is given to a value that it does not fit.
_ERRORS = (
    yaml.YAMLError,
    ValueError,
    RecursionError,
    LookupError,
    AttributeError,
    TypeError,
)


class _Loader(yaml.SafeLoader):
    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._aliases = 0
        self._with_aliases: set[str] = set()

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose the next node; refuses an alias of one that has aliases."""
        event, before = self.peek_event(), self._aliases
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self._with_aliases:
                line = event.start_mark.line + 1
                raise ValueError(f"alias of an alias in line {line}: {event.anchor!r}")
            self._aliases += 1
            return super().compose_node(parent, index)
        node = super().compose_node(parent, index)
        if event.anchor and self._aliases > before:
            self._with_aliases.add(event.anchor)
        return node

    def unique_mapping(self, node: yaml.MappingNode) -> dict[Any, Any]:
        """Construct a mapping; refuses a key that is given twice."""
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for name, count in names.items():
            if count > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{name!r} is given twice", node.start_mark
                )
        # At once: what is built later, as the loader itself does, may hold itself.
        return self.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.unique_mapping)
