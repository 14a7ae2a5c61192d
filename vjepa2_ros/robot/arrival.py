# SPDX-License-Identifier: Apache-2.0
"""Decides from measured states when a motion is over."""

from __future__ import annotations

from collections import deque

import numpy as np
from scipy.spatial.transform import Rotation

from vjepa2_ros.robot.driver import RobotState

POSITION_TOLERANCE = 0.005
"""Distance to the target [m] within which the robot has arrived."""
ROTATION_TOLERANCE = 0.05
"""Angle to the target [rad] within which the robot has arrived."""
STILL_SPEED = 0.01
"""Speed [m/s] of the tool centre point and of the fingers below which the robot is at rest."""
STILL_WINDOW = 0.15
"""Time [s] over which the speed is measured."""
PATIENCE = 1.0
"""Time after the command [s] from which a robot at rest is done even short of its target: at a
joint limit, or with the fingers around an object."""


class ArrivalDetector:
    """Tells when the robot is at rest at the target, or at rest for long.

    All times are stamps of the measured states: states that arrive late must not look like a
    robot at rest.

    Args:
        gripper_stroke: opening of the gripper at closedness 0 [m].
    """

    def __init__(self, gripper_stroke: float) -> None:
        self._gripper_stroke = gripper_stroke
        self._recent: deque[RobotState] = deque()
        self._started = 0.0
        self._position = np.zeros(3)
        self._rotation = Rotation.identity()

    def begin(self, position: np.ndarray, quaternion_xyzw: np.ndarray, now: float) -> None:
        """Start to watch a motion.

        Args:
            position: target [3] in metres, base frame.
            quaternion_xyzw: target orientation [4], unit length.
            now: time of the command [s].
        """
        self._started = now
        self._position = position
        self._rotation = Rotation.from_quat(quaternion_xyzw)

    def add(self, state: RobotState) -> None:
        """Take the newest measured state; one that was taken before is ignored."""
        if not self._recent or state.stamp > self._recent[-1].stamp:
            self._recent.append(state)
        while state.stamp - self._recent[0].stamp > 2 * STILL_WINDOW:
            self._recent.popleft()

    def arrived(self) -> bool:
        """True when the motion that began last is over."""
        if not self._at_rest():
            return False
        return self._recent[-1].stamp - self._started > PATIENCE or self._at_target()

    def _at_rest(self) -> bool:
        newest = self._recent[-1]
        if newest.stamp - self._started < STILL_WINDOW or newest.gripper_moving:
            return False
        spanned = newest.stamp - self._recent[0].stamp >= STILL_WINDOW
        window = [state for state in self._recent if newest.stamp - state.stamp <= STILL_WINDOW]
        # Compared with every state of the window: the first and the last alone are equal for a
        # robot that oscillates.
        way = max(self._way(newest, state) for state in window)
        return spanned and way < STILL_SPEED * STILL_WINDOW

    def _at_target(self) -> bool:
        newest = self._recent[-1]
        turn = self._rotation * Rotation.from_quat(newest.quaternion_xyzw).inv()
        offset = float(np.linalg.norm(newest.position - self._position))
        return offset < POSITION_TOLERANCE and float(turn.magnitude()) < ROTATION_TOLERANCE

    def _way(self, first: RobotState, second: RobotState) -> float:
        """Way [m] between two states: that of the tool centre point or of the fingers."""
        closed = abs(first.gripper_closedness - second.gripper_closedness)
        moved = float(np.linalg.norm(first.position - second.position))
        return max(moved, self._gripper_stroke * closed)
