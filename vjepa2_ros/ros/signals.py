# SPDX-License-Identifier: Apache-2.0
"""Signals of a program: Ctrl-C and SIGTERM, and the end of the process that started it.

Standard library only, so that a program can call this before it imports anything that takes long.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def exit_on_signal() -> None:
    """End the process at once, with exit code 0, on Ctrl-C and SIGTERM from now on.

    For the time of the imports: nothing has been started yet that needs an orderly end, and an
    exception raised in the middle of an import leaves a traceback or is swallowed.
    """
    for number in _SIGNALS:
        signal.signal(number, lambda *_: os._exit(0))


def stop_on_signal() -> threading.Event:
    """Return an event that Ctrl-C and SIGTERM set from now on. Call it from the main thread."""
    stop = threading.Event()
    for number in _SIGNALS:
        signal.signal(number, lambda *_: stop.set())
    return stop


def end_with_parent() -> None:
    """Have the kernel send SIGTERM to this process when the one that started it has ended."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
