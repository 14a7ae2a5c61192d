# SPDX-License-Identifier: Apache-2.0
"""JSON that every reader accepts: Python's own writes NaN and infinity, which are not valid."""

import os
import shutil
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
    """Write a value into a file, and make its folder if it does not exist.

    A reader, or who comes after an interruption, finds the old text or the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Through a link; what is no file, such as /dev/stdout, must not become one.
    target = path.resolve()
    if target.exists() and not target.is_file():
        path.write_text(dumps(value))
        return
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        part.write_text(dumps(value))
        if target.exists():
            shutil.copymode(target, part)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
