# SPDX-License-Identifier: Apache-2.0
"""Real-time priority of a thread, and of those that it starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def realtime_priority(wanted: bool) -> Iterator[None]:
    """Run with the highest real-time priority; threads that are started meanwhile keep it.

    Args:
        wanted: False changes nothing.

    Raises:
        PermissionError: this user may not have it.
    """
    if not wanted:
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    highest = os.sched_param(os.sched_get_priority_max(os.SCHED_FIFO))
    os.sched_setscheduler(0, os.SCHED_FIFO, highest)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)
