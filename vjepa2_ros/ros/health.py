# SPDX-License-Identifier: Apache-2.0
"""What a node says of itself once a second: is it alive, how fast, how old, what went wrong."""

from __future__ import annotations

import time
from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue


class Health:
    """Collects a node's condition between two reports.

    The level of an error or a warning stays until the next good piece of work (`beat`) or until
    `clear`; the text of the last error is kept for good, with its age.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._beats = 0
        self._since = clock()
        self._last_beat: float | None = None
        self._level, self._message = DiagnosticStatus.OK, ""
        self._last_error, self._last_error_time = "", 0.0
        self._errors = 0
        self._told: dict[str, float] = {}
        self._values: dict[str, str] = {}

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

    def is_news(self, text: str) -> bool:
        """True if a text was not asked about in the last 10 s: worth a line in the log."""
        now = self._clock()
        self._told = {told: time for told, time in self._told.items() if now - time < 10.0}
        return self._told.setdefault(text, now) == now

    def set(self, key: str, value: object) -> None:
        """Set a value of the node's own to be reported."""
        self._values[key] = str(value)

    def report(self, lifecycle: str) -> DiagnosticStatus:
        """Build the status message and start counting anew."""
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
