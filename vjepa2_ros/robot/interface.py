# SPDX-License-Identifier: Apache-2.0
"""What a robot must be able to do to be driven by the controller node.

Everything is absolute and in the robot's base frame, so that a command that comes late or twice
cannot add up to a larger motion, and so that a preempting command never builds on the one before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


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

    def is_finite(self) -> bool:
        """True if every number of the state is finite."""
        numbers = (*self.position, *self.quaternion_xyzw, self.gripper_closedness, self.stamp)
        return bool(np.isfinite(numbers).all())


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
