# SPDX-License-Identifier: Apache-2.0
"""What a check found out."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Status(enum.Enum):
    """Whether something is fit."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"
    SKIPPED = "SKIPPED"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        check: what was looked at.
        status: whether it is fit.
        measured: what was measured, with units.
        advice: what to do; empty where nothing is.
    """

    check: str
    status: Status
    measured: str
    advice: str = ""


def ok(check: str, measured: str, advice: str = "") -> Finding:
    """Fit."""
    return Finding(check, Status.OK, measured, advice)


def warn(check: str, measured: str, advice: str) -> Finding:
    """Fit for a first motion, but worth a look."""
    return Finding(check, Status.WARN, measured, advice)


def fail(check: str, measured: str, advice: str) -> Finding:
    """Not fit."""
    return Finding(check, Status.FAIL, measured, advice)


def skipped(check: str, measured: str, advice: str) -> Finding:
    """Could not be looked at."""
    return Finding(check, Status.SKIPPED, measured, advice)
