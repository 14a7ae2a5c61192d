# SPDX-License-Identifier: Apache-2.0
"""Faults of the simulated cell, injected on purpose: what a stack on it must survive.

Camera and measured state are changed here; those of the robot itself are the methods of
`FrankaCell`, since only behind the Franka control interface (FCI) the robot can refuse.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from vjepa2_ros.robot.driver import RobotState

CAMERA_FAULTS = {
    "frozen": "the same image with the same stamp again and again",
    "frozen_stamped": "the same image with new stamps",
    "slow": "one image a second",
    "gone": "no images",
    "resized": "images of half the size",
}
STATE_FAULTS = {
    "state_frozen": "the same state with the same stamp again and again",
    "state_gone": "no states",
    "state_from_the_future": "states with stamps that are 10 s ahead; not over the FCI, which has "
    "no stamps",
    "state_not_finite": "a position that is not a number",
    "state_jumped": "a position that is 30 cm off",
}
ROBOT_FAULTS = {
    "reflex": "a reflex of the arm, once",
    "user_stop": "the user stop is pressed",
    "gripper_blocked": "something holds the fingers where they are",
    "connection_lost": "connections are dropped and refused",
}
"""Only behind the FCI."""
FAULTS = {**CAMERA_FAULTS, **STATE_FAULTS, **ROBOT_FAULTS}
"""What each fault does, by its name."""
_SLOW_PERIOD = 1.0
_AHEAD = 10.0
_JUMP = 0.3


class FaultError(ValueError):
    """A fault cannot be injected; the text says why and what can."""


class Faults:
    """Which faults are injected at present; may be used from several threads.

    Args:
        names: those that this cell can have.
        switch: called with the name of a fault and whether it begins or ends.
    """

    def __init__(
        self, names: tuple[str, ...], switch: Callable[[str, bool], None] = lambda name, on: None
    ) -> None:
        self._names = names
        self._switch = switch
        self._ends: dict[str, float] = {}
        self._lock = threading.Lock()

    def inject(self, name: str, active: bool, duration: float, now: float) -> str:
        """Begin or end a fault.

        Args:
            name: of the fault; with `active` false, empty for all of them.
            active: whether it begins.
            duration: after which it ends by itself [s]; 0: it does not.
            now: present time [s], of a clock that does not jump.

        Returns:
            What was done, in words.

        Raises:
            FaultError: this cell cannot have the fault, or the duration is no duration.
        """
        if not np.isfinite(duration) or duration < 0.0:
            raise FaultError(f"the duration must be 0 (until it is ended) or more, not {duration}")
        if name not in self._names and (name or active):
            reason = "needs the setting franka_server" if name in FAULTS else "is not known"
            known = ", ".join(self._names)
            raise FaultError(f"fault {name[:40]!r} {reason}; here there are {known}")
        with self._lock:
            if not active:
                ended = [fault for fault in self._ends if name in ("", fault)]
                self._end(ended)
                return f"ended: {', '.join(ended) or 'nothing'}"
            if name not in self._ends:
                self._switch(name, True)
            # A reflex is over at once; its error stays with the robot.
            if name != "reflex":
                self._ends[name] = now + duration if duration else np.inf
            return f"{name}: {FAULTS[name]}"

    def _end(self, names: list[str]) -> None:
        for name in names:
            del self._ends[name]
            self._switch(name, False)

    def active(self, now: float) -> tuple[str, ...]:
        """Names of the faults at a time [s]; those whose time is over end."""
        with self._lock:
            self._end([name for name, end in self._ends.items() if end <= now])
            return tuple(self._ends)


class FaultyCamera:
    """Applies the camera's faults to one image after another."""

    def __init__(self) -> None:
        self._last: tuple[np.ndarray, float] | None = None

    def image(
        self, render: Callable[[], np.ndarray], stamp: float, faults: tuple[str, ...]
    ) -> tuple[np.ndarray, float] | None:
        """The image to publish and its stamp [s]; None for none.

        Args:
            render: takes an image [height, width, 3]; not called where none is needed.
            stamp: present time [s].
            faults: active ones.
        """
        last = self._last
        if "gone" in faults:
            return None
        if "frozen" in faults and last is not None:
            return last
        if "slow" in faults and last is not None and 0.0 <= stamp - last[1] < _SLOW_PERIOD:
            return None
        if "frozen_stamped" in faults and last is not None:
            self._last = last[0], stamp
            return self._last
        image = render()
        if "resized" in faults:
            image = np.ascontiguousarray(image[::2, ::2])
        self._last = image, stamp
        return self._last


class FaultyStates:
    """Applies the faults of the measured state to one state after another."""

    def __init__(self) -> None:
        self._last: RobotState | None = None

    def state(self, state: RobotState, faults: tuple[str, ...]) -> RobotState | None:
        """The state to publish; None for none.

        Args:
            state: as measured.
            faults: active ones.
        """
        if "state_gone" in faults:
            return None
        if "state_frozen" in faults and self._last is not None:
            return self._last
        if "state_from_the_future" in faults:
            state = replace(state, stamp=state.stamp + _AHEAD)
        if "state_not_finite" in faults:
            state = replace(state, position=np.full(3, np.nan))
        if "state_jumped" in faults:
            state = replace(state, position=state.position + [_JUMP, 0.0, 0.0])
        self._last = state
        return state


def distort(state: np.void, faults: tuple[str, ...]) -> None:
    """Apply the faults that change numbers to a state of the FCI, an array of one `STATE`."""
    if "state_not_finite" in faults:
        state["O_T_EE"][12:15] = np.nan
    if "state_jumped" in faults:
        state["O_T_EE"][12] += _JUMP
