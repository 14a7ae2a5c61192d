# SPDX-License-Identifier: Apache-2.0
"""Limits of the Franka arms, from the documentation of the Franka control interface.

They are set explicitly: the client's own defaults are those of one model, and an FR3 that is driven
with a Panda's stops by reflex.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vjepa2_ros.robot.driver import RobotDescription
from vjepa2_ros.robot.kinematics import JOINT_LIMITS, FrankaKinematics, JointLimits

JOINT_COUNT = 7
HAND_STROKE = 0.08
"""Opening of the Franka Hand at closedness 0 [m]."""


@dataclass(frozen=True)
class MotionLimit:
    """Limits of one kind of motion; SI units, for joints float64 [7].

    Attributes:
        velocity, acceleration, jerk: largest values.
    """

    velocity: float | np.ndarray
    acceleration: float | np.ndarray
    jerk: float | np.ndarray


@dataclass(frozen=True)
class ArmLimits:
    """Limits of an arm.

    Attributes:
        name: of the arm, for people.
        prefix: of its joints' names.
        translation: of the end effector [m/s, m/s², m/s³].
        rotation: of the end effector [rad/s, rad/s², rad/s³].
        elbow: of the third joint in Cartesian motions, as `rotation`.
        joint: of the joints, as `rotation`.
        joint_positions: of the joints [rad].
    """

    name: str
    prefix: str
    translation: MotionLimit
    rotation: MotionLimit
    elbow: MotionLimit
    joint: MotionLimit
    joint_positions: JointLimits

    def describe(self, name: str, max_speed: float, gripper_stroke: float) -> RobotDescription:
        """Description of a robot with this arm, see there."""
        return RobotDescription(
            name,
            max_speed,
            gripper_stroke,
            tuple(f"{self.prefix}_joint{number + 1}" for number in range(JOINT_COUNT)),
            self.joint_positions.lower,
            self.joint_positions.upper,
            FrankaKinematics(),
        )


ARMS = {
    "fr3": ArmLimits(
        "Franka Research 3",
        "fr3",
        MotionLimit(3.0, 9.0, 4500.0),
        MotionLimit(2.5, 17.0, 8500.0),
        MotionLimit(2.62, 10.0, 5000.0),
        MotionLimit(
            np.array([2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26]),
            np.full(JOINT_COUNT, 10.0),
            np.full(JOINT_COUNT, 5000.0),
        ),
        JOINT_LIMITS["fr3"],
    ),
    "panda": ArmLimits(
        "Franka Emika Panda",
        "panda",
        MotionLimit(1.7, 13.0, 6500.0),
        MotionLimit(2.5, 25.0, 12500.0),
        MotionLimit(2.175, 10.0, 5000.0),
        MotionLimit(
            np.array([2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61]),
            np.array([15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0]),
            np.array([7500.0, 3750.0, 5000.0, 6250.0, 7500.0, 10000.0, 10000.0]),
        ),
        JOINT_LIMITS["panda"],
    ),
}
"""Limits of each arm by its name in `FrankaSettings.model`."""
