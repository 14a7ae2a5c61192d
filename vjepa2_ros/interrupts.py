# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C in a program with worker processes: a terminal sends it to all of them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Let only this process, not those that it starts in here, handle Ctrl-C.

    A worker would print a traceback, at the latest while it starts. A pool starts its workers when
    jobs are submitted.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
