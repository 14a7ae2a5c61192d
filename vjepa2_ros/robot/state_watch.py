# SPDX-License-Identifier: Apache-2.0
"""Compares each measured state with those before it: a robot cannot jump, and must not race.

All times are stamps of the states, so that one that is merely read late shows no speed.
"""

from __future__ import annotations

import math
from collections import deque

from vjepa2_ros.robot.driver import RobotMode, RobotState
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.robot.safety import Verdict, refuse
from vjepa2_ros.settings.controller import MotionLimits

SPEED_WINDOW = 0.1
"""Shortest time [s] over which the speed of the tool centre point is measured."""
JUMP_TOLERANCE = 0.01
"""Way [m] between two states that is no jump however close their stamps are: both are noisy."""


class StateWatch:
    """Finds states that no real motion explains, and motions that are too fast."""

    def __init__(self) -> None:
        # From the newest state that is at least the window old to the newest one.
        self._recent: deque[RobotState] = deque()

    def check(self, state: RobotState, limits: MotionLimits) -> Verdict | None:
        """Take a valid state; return a refusal if it cannot follow the last one, else None.

        A state with the stamp of the last one, or out of order by at most `max_state_age`, is
        ignored. After a jump the motion is measured from the new state on.
        """
        if not self._recent:
            self._recent.append(state)
            return None
        last = self._recent[-1]
        seconds = state.stamp - last.stamp
        if -limits.max_state_age <= seconds <= 0.0:
            return None
        jump = _jump(last, state, limits)
        # In USER_STOPPED a person guides the arm, as fast as he likes.
        if jump or state.mode == RobotMode.USER_STOPPED:
            self._recent.clear()
        self._recent.append(state)
        return jump or self._check_speed(limits.max_speed)

    def _check_speed(self, allowed: float) -> Verdict | None:
        recent = self._recent
        newest = recent[-1]
        while len(recent) > 1 and newest.stamp - recent[1].stamp >= SPEED_WINDOW:
            recent.popleft()
        seconds = newest.stamp - recent[0].stamp
        if seconds < SPEED_WINDOW:
            return None
        speed = math.dist(newest.position, recent[0].position) / seconds
        if speed > allowed:
            return refuse(
                Reason.SPEED_TOO_HIGH,
                f"the tool centre point moved at {speed:.2f} m/s for {seconds:.2f} s; max_speed is "
                f"{allowed:.2f} m/s",
            )
        return None


def _jump(last: RobotState, state: RobotState, limits: MotionLimits) -> Verdict | None:
    seconds = state.stamp - last.stamp
    if seconds < 0.0:
        return refuse(
            Reason.STATE_JUMPED,
            f"the stamp of the robot's state went back by {-seconds:.2f} s; allowed are "
            f"{limits.max_state_age:.2f} s. Was a clock set?",
        )
    way = math.dist(state.position, last.position)
    if way > limits.max_state_speed * seconds + JUMP_TOLERANCE:
        return refuse(
            Reason.STATE_JUMPED,
            f"the measured position changed by {way * 100:.1f} cm within {seconds * 1e3:.1f} ms; "
            f"max_state_speed is {limits.max_state_speed:.2f} m/s. See that only one driver talks "
            "to the robot",
        )
    return None
