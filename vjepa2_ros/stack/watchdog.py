# SPDX-License-Identifier: Apache-2.0
"""Whether a process that was started says that it lives, see `ros/notify.py`."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable

from vjepa2_ros.ros.notify import NOTIFY_SOCKET, WATCHDOG, Notifier

SILENCE = 5.0
"""Longest time between two signs of life [s]."""
_LARGEST = 4096


class Watchdog:
    """Hears the signs of life of one process, and passes all it sends on to this one's own starter.

    Args:
        clock: seconds of a clock that never jumps.

    Attributes:
        environment: what the process needs in its environment.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        # Without a file: it leaves nothing behind. The random number keeps other programs out.
        name = f"vjepa2_ros/watchdog/{os.getpid()}/{secrets.token_hex(8)}"
        self._socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        self._socket.bind(f"\0{name}")
        self.environment = {NOTIFY_SOCKET: f"@{name}"}
        self._own_starter = Notifier()
        self._clock = clock
        self._heard: float | None = None

    @property
    def silence(self) -> float:
        """Time since the last sign of life [s]; 0 before the first."""
        while True:
            try:
                text = self._socket.recv(_LARGEST).decode(errors="replace")
            except BlockingIOError:
                break
            # What was waiting while this process was suspended counts as heard now.
            if WATCHDOG in text.split("\n"):
                self._heard = self._clock()
            self._own_starter.send(text)
        return 0.0 if self._heard is None else self._clock() - self._heard

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        self._own_starter.close()
