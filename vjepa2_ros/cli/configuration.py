# SPDX-License-Identifier: Apache-2.0
"""The options by which every command takes its settings, and the table that shows them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vjepa2_ros.cli.arguments import positive_integer

if TYPE_CHECKING:
    from vjepa2_ros.settings.files import Configuration


def add_configuration_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `--config`, `--preset` and `--checkpoint`."""
    parser.add_argument(
        "--config",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="parameter file, or folder of files named like those under config/; they are merged "
        "over the shipped ones, and the last one wins (may be repeated)",
    )
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help="shipped settings under config/presets: contact, grasp, paper, push or "
        "simulated_franka",
    )
    parser.add_argument(
        "--checkpoint", metavar="NAME", help="world model instead of the configured one"
    )


def add_computation_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `--device`, `--dtype` and `--threads`, which overrule the configured ones."""
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:N (default: configured)")
    parser.add_argument("--dtype", help="auto, float32 or bfloat16 (default: configured)")
    parser.add_argument(
        "--threads",
        type=positive_integer,
        help="threads of PyTorch on the CPU (default: configured)",
    )


def computation(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What `add_computation_arguments` sets, for `configuration`."""
    names = ("device", "dtype", "threads")
    return {"/**": {name: getattr(arguments, name) for name in names}}


def configuration(
    arguments: argparse.Namespace,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    namespace: str | None = None,
) -> Configuration:
    """The settings that the arguments of a command ask for.

    Args:
        arguments: of a parser with `add_configuration_arguments`.
        options: further values, by node and parameter; None is left out.
        namespace: of the nodes, if not the default.

    Raises:
        SettingsError: a file, a preset or a value cannot be used.
    """
    from vjepa2_ros.settings.files import ALL_NODES, NAMESPACE, resolve

    values: dict[str, dict[str, Any]] = {}
    for entries in ({ALL_NODES: {"checkpoint": arguments.checkpoint}}, options or {}):
        for node, given in entries.items():
            kept = {name: value for name, value in given.items() if value is not None}
            values.setdefault(node, {}).update(kept)
    return resolve(arguments.config, arguments.preset, values, namespace or NAMESPACE)


def shown(effective: Configuration) -> Iterator[str]:
    """Lines that list the effective value of every parameter with its origin, by node."""
    for node, values in effective.values.items():
        yield f"{node}:"
        names = max(map(len, values))
        texts = {name: _literal(entry.value) for name, entry in values.items()}
        width = min(40, max(map(len, texts.values())))
        for name, entry in values.items():
            yield f"  {name:<{names}}  {texts[name]:<{width}}  {entry.origin}"


def _literal(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if value == "" else str(value)
