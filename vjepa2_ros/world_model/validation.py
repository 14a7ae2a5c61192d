# SPDX-License-Identifier: Apache-2.0
"""Errors of checkpoints, and checks of the values that describe a model.

Configurations come from files of unknown origin: every value is checked before a module is built
from it.
"""

import json
import reprlib
from pathlib import Path
from typing import Any

MAX_COUNT = 2**16
"""Largest count, width or depth that is accepted; the published model's largest is 1408."""
MAX_IMAGE_SIDE = 4096
"""Largest input side in pixels that is accepted."""
_MAX_JSON_BYTES = 4 * 2**20


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says what is wrong and what to do."""


def check_count(name: str, value: Any, most: int = MAX_COUNT) -> None:
    """Check a positive integer.

    Raises:
        ValueError: `value` is of another type, below 1 or above `most`.
    """
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"{name} must be an integer from 1 to {most}, not {reprlib.repr(value)}")


def check_positive(name: str, value: Any) -> None:
    """Check a positive number.

    Raises:
        ValueError: `value` is of another type, NaN, not above 0, or above `MAX_COUNT`.
    """
    if type(value) not in (int, float) or not 0 < value <= MAX_COUNT:
        raise ValueError(
            f"{name} must be a number above 0, at most {MAX_COUNT}, not {reprlib.repr(value)}"
        )


def check_bool(name: str, value: Any) -> None:
    """Check a boolean.

    Raises:
        ValueError: `value` is of another type.
    """
    if type(value) is not bool:
        raise ValueError(f"{name} must be true or false, not {reprlib.repr(value)}")


def check_divides(divisor: str, by: int, name: str, value: int) -> None:
    """Check that one value is a multiple of another.

    Raises:
        ValueError: `value` (called `name`) is not a multiple of `by` (called `divisor`).
    """
    if value % by:
        raise ValueError(f"{name} {value} is not a multiple of {divisor} {by}")


def read_json_object(path: Path) -> dict:
    """Read a small JSON file that holds an object.

    Raises:
        CheckpointError: the file cannot be read, is too large, or holds something else.
    """
    try:
        size = path.stat().st_size
        if size > _MAX_JSON_BYTES:
            raise ValueError(f"it has {size} bytes, at most {_MAX_JSON_BYTES} are read")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}, not an object")
    except RecursionError as error:
        raise CheckpointError(f"{path} cannot be used: it is nested too deeply") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be used: {first_line(error)}") from error
    return content


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type where it has none."""
    return str(error).strip().split("\n")[0][:200] or type(error).__name__
