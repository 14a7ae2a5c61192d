# SPDX-License-Identifier: Apache-2.0
"""Texts of other programs, made safe to print."""


def printable(text: str) -> str:
    """A text without control characters but line feeds, so that it cannot steer a terminal.

    Each is shown as an escape sequence (`\\x1b`).
    """
    return "".join(
        character
        if character == "\n" or character.isprintable()
        else character.encode("unicode_escape").decode()
        for character in text
    )
