# SPDX-License-Identifier: Apache-2.0
"""Output that never makes a node wait.

A terminal that is stopped (Ctrl-S), a pager that is not scrolled or a full pipe block what
writes to them. A controller that waits there neither watches nor halts its robot, so lines that the
other side does not take are dropped.
"""

from __future__ import annotations

import fcntl
import io
import os
import stat
import sys


def never_wait_for_output() -> None:
    """Make stdout and stderr of this process non-blocking, for Python, C and C++ alike."""
    sys.stdout = _text_output(1)
    sys.stderr = _text_output(2)


def _text_output(descriptor: int) -> io.TextIOWrapper:
    _make_non_blocking(descriptor)
    buffered = io.BufferedWriter(_DroppingFile(descriptor, "w", closefd=False))
    return io.TextIOWrapper(
        buffered, encoding="utf-8", errors="backslashreplace", line_buffering=True
    )


def _make_non_blocking(descriptor: int) -> None:
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return  # writing to a file does not wait for a reader
    try:
        # O_NONBLOCK belongs to the open file, which the shell of a terminal shares: open it again.
        reopened = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        # A socket cannot be opened again, and another user's terminal may not.
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_NONBLOCK)
        return
    os.dup2(reopened, descriptor)
    os.close(reopened)


class _DroppingFile(io.FileIO):
    """Claims to have written what could not be: the reader does not read, or has gone."""

    def write(self, data) -> int:
        try:
            written = super().write(data)
        except OSError:
            written = None
        return len(data) if written is None else written
