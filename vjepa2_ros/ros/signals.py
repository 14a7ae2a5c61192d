# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM as an event, so that a program ends in order instead of in the middle."""

from __future__ import annotations

import signal
import threading


def stop_on_signal() -> threading.Event:
    """Return an event that Ctrl-C and SIGTERM set from now on. Call it from the main thread."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop
