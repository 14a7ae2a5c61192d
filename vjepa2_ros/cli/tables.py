# SPDX-License-Identifier: Apache-2.0
"""Where tables are printed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH, _LEAST = 160, 110


def wide_console() -> Console:
    """A console as wide as the terminal, but not so narrow that it would cut numbers.

    In a file or a pipe, which have no width of their own, rows stay whole.
    """
    from rich.console import Console

    return Console(width=max(_LEAST, Console().width) if sys.stdout.isatty() else _WIDTH)
