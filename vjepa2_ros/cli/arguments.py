# SPDX-License-Identifier: Apache-2.0
"""Types of command-line values, so that invalid ones are refused before anything starts."""

import math
from argparse import ArgumentTypeError

LARGEST = 2**31 - 1
"""The largest whole number that parameters of nodes and fields of messages take alike."""


def positive_integer(text: str) -> int:
    """A count from 1; ArgumentTypeError for anything else."""
    return _whole(text, 1)


def seed(text: str) -> int:
    """A seed from 0; ArgumentTypeError for anything else."""
    return _whole(text, 0)


def whole_number(text: str) -> int:
    """A count from 0; ArgumentTypeError for anything else."""
    return _whole(text, 0)


def positive_number(text: str) -> float:
    """A finite number above 0; ArgumentTypeError for anything else."""
    number = _finite(text)
    if not number > 0:
        raise ArgumentTypeError(f"{text} is not above 0")
    return number


def non_negative_number(text: str) -> float:
    """A finite number from 0; ArgumentTypeError for anything else."""
    number = _finite(text)
    if number < 0:
        raise ArgumentTypeError(f"{text} is below 0")
    return number


def namespace(text: str) -> str:
    """A namespace of nodes, with a slash in front; ArgumentTypeError for anything else."""
    from vjepa2_ros.settings.declaration import SettingsError
    from vjepa2_ros.settings.files import namespace_of

    try:
        return namespace_of(text)
    except SettingsError as error:
        raise ArgumentTypeError(str(error)) from None


def _whole(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not an integer") from None
    if not least <= number <= LARGEST:
        raise ArgumentTypeError(f"{number} is not from {least} to {LARGEST}")
    return number


def _finite(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a number") from None
    if not math.isfinite(number):
        raise ArgumentTypeError(f"{text} is not finite")
    return number
