# SPDX-License-Identifier: Apache-2.0
"""What a robot must be able to do to be driven by the controller node.

Everything is absolute and in the robot's base frame, so that a command that comes late or twice
cannot add up to a larger motion, and so that a preempting command never builds on the one before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

QUATERNION_TOLERANCE = 1e-3
"""Largest deviation from unit length that rounding explains."""


class RobotError(RuntimeError):
    """The robot cannot be read or refused to move; the text says why and what to do."""


@dataclass(frozen=True)
class RobotState:
    """Measured state of the tool centre point in the base frame.

    position: float64 [3], metres.
    quaternion_xyzw: float64 [4], unit length.
    gripper_closedness: 0 (fully open) to 1 (fully closed).
    stamp: when it was measured, seconds of the clock that commands are stamped with.
    """

    position: np.ndarray
    quaternion_xyzw: np.ndarray
    gripper_closedness: float
    stamp: float

    def problem(self) -> str:
        """Why nothing may be built on this state, in words; empty if it is sound."""
        numbers = (*self.position, *self.quaternion_xyzw, self.gripper_closedness, self.stamp)
        if not np.isfinite(numbers).all():
            return "the measured state of the robot is not finite"
        length = float(np.linalg.norm(self.quaternion_xyzw))
        if abs(length - 1.0) > QUATERNION_TOLERANCE:
            return f"the measured quaternion of the robot has length {length:.4f} instead of 1"
        return ""


class Robot(Protocol):
    """A robot with a gripper that follows absolute Cartesian targets.

    Every method returns at once and raises RobotError if it could not do its work.
    """

    def read_state(self) -> RobotState:
        """Return the newest measured state; RobotError if there is none yet."""

    def move_to(
        self, position: np.ndarray, quaternion_xyzw: np.ndarray, gripper_closedness: float
    ) -> None:
        """Start moving to an absolute pose [m, unit quaternion]; preempts the motion under way."""

    def stop(self) -> None:
        """Come to rest as fast as the robot's limits allow and hold there."""

    def close(self) -> None:
        """Release the robot; it holds where it is."""
