# SPDX-License-Identifier: Apache-2.0
"""A node's own diagnostics, once a second: heartbeat, rate, age, last error."""

from __future__ import annotations

import math
import os
import secrets
import socket
import time
from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

_LOG_PERIOD = 10.0


class Health:
    """Collects a node's condition between two reports.

    The level of an error or a warning stays until the next good piece of work (`beat`) or until
    `clear`; the text of the last error is kept for good, with its age.

    Attributes:
        instance: tells this node from others of its name: host, process and a random number.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.instance = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._name = name
        self._clock = clock
        self._beats = 0
        self._since = clock()
        self._last_beat: float | None = None
        self._level, self._message = DiagnosticStatus.OK, ""
        self._last_error, self._last_error_time = "", 0.0
        self._errors = 0
        self._logged: dict[str, tuple[float, int]] = {}
        self._values = {"instance": self.instance}

    @property
    def last_error(self) -> str:
        """Text of the last error, empty if there was none."""
        return self._last_error

    def beat(self) -> None:
        """Count one good piece of work."""
        self._beats += 1
        self._last_beat = self._clock()
        self.clear()

    def clear(self) -> None:
        """Return to OK."""
        self._level, self._message = DiagnosticStatus.OK, ""

    def warn(self, text: str) -> None:
        """Set the level to WARN."""
        self._level, self._message = DiagnosticStatus.WARN, text

    def error(self, text: str) -> None:
        """Set the level to ERROR and remember the text."""
        self._level, self._message = DiagnosticStatus.ERROR, text
        self._last_error, self._last_error_time = text, self._clock()
        self._errors += 1

    def is_news(self, kind: str) -> bool:
        """Whether something is worth a line in the log; see `left_out`."""
        return self.left_out(kind) is not None

    def left_out(self, kind: str) -> int | None:
        """Whether something is worth a line in the log: what repeats is worth one in 10 s.

        Args:
            kind: the text, or what it is about.

        Returns:
            How many of its kind were left out since the last line; None to leave this one out, too.
        """
        now = self._clock()
        logged, count = self._logged.get(kind, (-math.inf, 0))
        if now - logged < _LOG_PERIOD:
            self._logged[kind] = logged, count + 1
            return None
        # Kinds that have become rare are forgotten, or texts that vary would fill the memory.
        self._logged = {k: v for k, v in self._logged.items() if now - v[0] < _LOG_PERIOD}
        self._logged[kind] = now, 0
        return count

    def set(self, key: str, value: object) -> None:
        """Set a value of the node's own to be reported."""
        self._values[key] = str(value)

    def unset(self, key: str) -> None:
        """Report a value no longer."""
        self._values.pop(key, None)

    def report(self, lifecycle: str) -> DiagnosticStatus:
        """Build the status message and start counting from 0."""
        now = self._clock()
        rate = self._beats / max(now - self._since, 1e-6)
        self._beats, self._since = 0, now
        values = {"lifecycle": lifecycle, "rate_hz": f"{rate:.2f}"}
        if self._last_beat is not None:
            values["age_s"] = f"{now - self._last_beat:.3f}"
        if self._last_error:
            values["last_error"] = self._last_error
            values["errors"] = str(self._errors)
            values["last_error_age_s"] = f"{now - self._last_error_time:.1f}"
        values.update(self._values)
        return DiagnosticStatus(
            level=self._level,
            name=self._name,
            message=self._message or lifecycle,
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
