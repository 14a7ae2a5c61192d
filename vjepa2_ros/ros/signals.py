# SPDX-License-Identifier: Apache-2.0
"""Signals of a program: Ctrl-C and SIGTERM, and the end of the process that started it.

Standard library only, so that a program can call this before it imports anything that takes long.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import threading
import time

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
# How soon a wait sees the signal that ends it [s].
_POLL = 0.05
# A terminal and a starter may both pass on what is one signal [s].
_ONE_SIGNAL = 0.1


class StopEvent(threading.Event):
    """An event that a signal handler may set.

    Attributes:
        is_urgent: whether it was set once more: somebody does not want to wait for an end in order.

    `threading.Event` takes a lock, which the code that the signal interrupts may hold: its own
    `wait`, or the handler of the signal before. The process would then hang.
    """

    def __init__(self) -> None:
        super().__init__()
        self._stopped = self.is_urgent = False
        self._first = 0.0

    def is_set(self) -> bool:
        return self._stopped

    def set(self) -> None:
        now = time.monotonic()
        if not self._stopped:
            self._first = now
        elif now > self._first + _ONE_SIGNAL:
            self.is_urgent = True
        self._stopped = True

    def wait(self, timeout: float | None = None) -> bool:
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while not self._stopped and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _POLL))
        return self._stopped


def exit_on_signal() -> None:
    """End the process at once, with exit code 0, on Ctrl-C and SIGTERM from now on.

    For the time of the imports: nothing has been started yet that needs an orderly end, and an
    exception raised in the middle of an import leaves a traceback or is swallowed.
    """
    for number in _SIGNALS:
        signal.signal(number, lambda *_: os._exit(0))


def stop_on_signal() -> StopEvent:
    """Return an event that Ctrl-C and SIGTERM set from now on. Call it from the main thread."""
    stop = StopEvent()
    for number in _SIGNALS:
        signal.signal(number, lambda *_: stop.set())
    return stop


def end_with_parent() -> None:
    """Have the kernel send SIGTERM to this process when the one that started it has ended."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
