# SPDX-License-Identifier: Apache-2.0
"""The interface of a robot driver.

All poses are absolute and in the robot's base frame: a command that arrives late or twice cannot
add up to a larger motion, and one that preempts another does not build on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np

from vjepa2_ros.robot.kinematics import FrankaKinematics

QUATERNION_TOLERANCE = 1e-3
"""Largest deviation from unit length that rounding explains."""


class RobotError(RuntimeError):
    """The robot cannot be read or did not obey; the text says why and what to do."""


class RobotNotReadyError(RobotError):
    """The robot takes no motion at present, as its mode will tell: no fault by itself."""


class RobotMode(IntEnum):
    """Whether a robot takes commands; the values are those of `msg/RobotState.msg`."""

    READY = 1
    """It takes commands."""
    RECOVERING = 2
    """Its driver is clearing an error; it takes commands again by itself, or becomes FAULTED."""
    USER_STOPPED = 3
    """A person has stopped it, or guides it by hand; it takes commands again once released."""
    FAULTED = 4
    """It has an error that `recover` may clear, once somebody has looked at it."""


@dataclass(frozen=True)
class RobotDescription:
    """What does not change while a robot is driven.

    Attributes:
        name: of the robot, for people.
        max_speed: of the tool centre point [m/s]; what it does not exceed by itself.
        gripper_stroke: opening of the gripper at closedness 0 [m].
        joint_names: of the arm's joints, in the order of `RobotState.joint_positions`; empty for a
            driver that knows no joints.
        joint_lower, joint_upper: float64 limits of the joints [rad]; None without joints.
        kinematics: of a Franka arm, for the check that its joints allow a target; None for others.
    """

    name: str
    max_speed: float
    gripper_stroke: float
    joint_names: tuple[str, ...] = ()
    joint_lower: np.ndarray | None = None
    joint_upper: np.ndarray | None = None
    kinematics: FrankaKinematics | None = None


@dataclass(frozen=True)
class RobotState:
    """Measured state of a robot.

    Attributes:
        position: float64 [3] in metres, base frame.
        quaternion_xyzw: float64 [4], unit length, base frame.
        gripper_closedness: 0 (fully open) to 1 (fully closed).
        stamp: time of the measurement in seconds, on the clock that commands are stamped with.
        commanded_closedness: what the gripper was told last; None where the driver does not know.
        mode: whether the robot takes commands.
        mode_text: why it is in this mode; empty when READY.
        gripper_problem: why the gripper did not do what it was told last; empty if it did, or if it
            closed on an object.
        joint_positions, joint_velocities: float64 [7], rad and rad/s; None where they are unknown.
        wrench: float64 [6], external force [N] and torque [Nm] on the tool centre point in the base
            frame, as the robot estimates it; None where it is unknown.
        gripper_moving: whether the gripper still carries out what it was told; false where the
            measured closedness alone tells.
    """

    position: np.ndarray
    quaternion_xyzw: np.ndarray
    gripper_closedness: float
    stamp: float
    commanded_closedness: float | None = None
    mode: RobotMode = RobotMode.READY
    mode_text: str = ""
    gripper_problem: str = ""
    joint_positions: np.ndarray | None = None
    joint_velocities: np.ndarray | None = None
    wrench: np.ndarray | None = None
    gripper_moving: bool = False

    def problem(self) -> str:
        """Why the state is invalid, in words; empty if it is valid."""
        numbers = [*self.position, *self.quaternion_xyzw, self.gripper_closedness, self.stamp]
        if self.commanded_closedness is not None:
            numbers.append(self.commanded_closedness)
        for optional in (self.joint_positions, self.joint_velocities, self.wrench):
            if optional is not None:
                numbers += [*optional]
        if not np.isfinite(numbers).all():
            return "the measured state of the robot is not finite"
        length = float(np.linalg.norm(self.quaternion_xyzw))
        if abs(length - 1.0) > QUATERNION_TOLERANCE:
            return f"the measured quaternion of the robot has length {length:.4f} instead of 1"
        return ""


class Robot(Protocol):
    """A robot with a gripper that follows absolute Cartesian targets.

    Every method returns at once: the watchdogs run in the same thread. Every method but `describe`
    raises RobotError if it could not do its work.

    A robot must come to rest by itself when the process of its driver is killed or hangs: nobody
    else can stop it then.
    """

    def describe(self) -> RobotDescription:
        """Return what does not change while the robot is driven."""

    def read_state(self) -> RobotState:
        """Return the newest measured state, with the stamp of its measurement.

        A state that is repeated with a new stamp would disarm the watchdog for a silent robot.
        Errors of an asynchronous motion are in its `mode`. Raises when the robot cannot be reached;
        once it can again, it needs `recover` before it takes commands.

        Called at the rate of the watchdogs, it is also the sign of life for what holds the robot
        when its driver dies.
        """

    def move_to(
        self, position: np.ndarray, quaternion_xyzw: np.ndarray, gripper_closedness: float
    ) -> None:
        """Start a motion to an absolute pose; it preempts the one in execution.

        Raises RobotNotReadyError while the mode is not READY, which the last state that was read
        may not tell yet; any other error is taken for a fault.

        Args:
            position: float64 [3] in metres, base frame.
            quaternion_xyzw: float64 [4], unit length, base frame.
            gripper_closedness: 0 (fully open) to 1 (fully closed).
        """

    def stop(self) -> None:
        """Come to rest as fast as the robot's limits allow, and hold there."""

    def recover(self) -> None:
        """Clear the robot's own errors, if it has any; called when a fault is reset.

        The robot must not move. If clearing takes long, it goes on after the return in the mode
        RECOVERING.
        """

    def close(self) -> None:
        """Release the robot; it holds where it is."""
