# SPDX-License-Identifier: Apache-2.0
"""JSON that every reader accepts: Python's own writes NaN and infinity, which are not valid."""

from pathlib import Path
from typing import Any

import orjson

_OPTIONS = (
    orjson.OPT_INDENT_2
    | orjson.OPT_APPEND_NEWLINE
    | orjson.OPT_NON_STR_KEYS
    | orjson.OPT_SERIALIZE_NUMPY
)


def dumps(value: Any) -> str:
    """JSON text of a value, which may hold NumPy's; numbers that are not finite become null."""
    return orjson.dumps(value, option=_OPTIONS).decode()


def write(value: Any, path: Path) -> None:
    """Write a value into a file, and make its folder if it does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dumps(value))
