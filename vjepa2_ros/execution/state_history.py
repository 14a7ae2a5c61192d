# SPDX-License-Identifier: Apache-2.0
"""Which state of the robot belongs to an image: the one measured nearest to its capture."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

State = TypeVar("State")


class StateHistory(Generic[State]):
    """The states of the last seconds, found by their stamps [s].

    Args:
        span: how far back states are kept [s].
    """

    def __init__(self, span: float) -> None:
        self._span = span
        self._states: deque[tuple[float, State]] = deque()

    def add(self, stamp: float, state: State) -> None:
        """Add a state; one that is not newer than the last is ignored, unless the clock was set
        back, in which case all before are forgotten."""
        if self._states and stamp <= self._states[-1][0]:
            if stamp > self._states[0][0]:
                return
            self._states.clear()
        self._states.append((stamp, state))
        while stamp - self._states[0][0] > self._span:
            self._states.popleft()

    def nearest(self, stamp: float, tolerance: float) -> State | None:
        """The state nearest in time, None if none is within the tolerance [s]."""
        if not self._states:
            return None
        time, state = min(self._states, key=lambda entry: abs(entry[0] - stamp))
        return state if abs(time - stamp) <= tolerance else None
