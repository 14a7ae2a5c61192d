# SPDX-License-Identifier: Apache-2.0
"""The interface of a robot driver.

All poses are absolute and in the robot's base frame: a command that arrives late or twice cannot
add up to a larger motion, and one that preempts another does not build on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

QUATERNION_TOLERANCE = 1e-3
"""Largest deviation from unit length that rounding explains."""


class RobotError(RuntimeError):
    """The robot cannot be read or did not obey; the text says why and what to do."""


@dataclass(frozen=True)
class RobotState:
    """Measured state of the tool centre point.

    Attributes:
        position: float64 [3] in metres, base frame.
        quaternion_xyzw: float64 [4], unit length, base frame.
        gripper_closedness: 0 (fully open) to 1 (fully closed).
        stamp: time of the measurement in seconds, on the clock that commands are stamped with.
        commanded_closedness: what the gripper was told last; None where the driver does not know.
    """

    position: np.ndarray
    quaternion_xyzw: np.ndarray
    gripper_closedness: float
    stamp: float
    commanded_closedness: float | None = None

    def problem(self) -> str:
        """Why the state is invalid, in words; empty if it is valid."""
        numbers = [*self.position, *self.quaternion_xyzw, self.gripper_closedness, self.stamp]
        if self.commanded_closedness is not None:
            numbers.append(self.commanded_closedness)
        if not np.isfinite(numbers).all():
            return "the measured state of the robot is not finite"
        length = float(np.linalg.norm(self.quaternion_xyzw))
        if abs(length - 1.0) > QUATERNION_TOLERANCE:
            return f"the measured quaternion of the robot has length {length:.4f} instead of 1"
        return ""


class Robot(Protocol):
    """A robot with a gripper that follows absolute Cartesian targets.

    Every method returns at once: the watchdogs run in the same thread. Every method raises
    RobotError if it could not do its work.
    """

    def read_state(self) -> RobotState:
        """Return the newest measured state, with the stamp of its measurement.

        A state that is repeated with a new stamp would disarm the watchdog for a silent robot.
        Errors of an asynchronous motion are raised here.
        """

    def move_to(
        self, position: np.ndarray, quaternion_xyzw: np.ndarray, gripper_closedness: float
    ) -> None:
        """Start a motion to an absolute pose; it preempts the one in execution.

        Args:
            position: float64 [3] in metres, base frame.
            quaternion_xyzw: float64 [4], unit length, base frame.
            gripper_closedness: 0 (fully open) to 1 (fully closed).
        """

    def stop(self) -> None:
        """Come to rest as fast as the robot's limits allow, and hold there."""

    def recover(self) -> None:
        """Clear the robot's own errors, if it has any; called when a fault is reset.

        The robot must not move. If clearing takes long, it goes on after the return, and `move_to`
        raises until it is done.
        """

    def close(self) -> None:
        """Release the robot; it holds where it is."""
