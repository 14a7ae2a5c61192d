# SPDX-License-Identifier: Apache-2.0
"""Signs of life to what started a process, by the convention of systemd (`sd_notify`).

The starter names a Unix datagram socket in NOTIFY_SOCKET: systemd for a service of `Type=notify`,
`vjepa2-ros up` for the lifecycle manager. Standard library only.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

NOTIFY_SOCKET = "NOTIFY_SOCKET"
"""Environment variable with the address of the socket."""
READY = "READY=1"
WATCHDOG = "WATCHDOG=1"
STOPPING = "STOPPING=1"


class Notifier:
    """Sends to the socket of the starter; does nothing where there is none."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get(NOTIFY_SOCKET, "")
        # "@" stands for the null character of an abstract address.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )

    def send(self, text: str) -> None:
        """Send a text such as `WATCHDOG`; one that nobody takes is lost."""
        if self._address:
            # The starter may be gone, or suspended with its queue full.
            with suppress(OSError):
                self._socket.sendto(text.encode(), self._address)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
