# SPDX-License-Identifier: Apache-2.0
"""Where a Franka arm has its elbow.

Seven joints can hold one pose of the hand in many ways. An elbow that is left alone stays where the
way to a pose has left it: the arm then looks different at each visit, which a world model takes
for a distance to the goal, and its joints creep towards their limits. It is led to where the arm
is as near to its ready posture as the pose of the hand allows.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial.transform import Rotation

from vjepa2_ros.robot.arrival import POSITION_TOLERANCE, ROTATION_TOLERANCE
from vjepa2_ros.robot.kinematics import READY_POSTURE, FrankaKinematics, JointLimits

LARGEST_CHANGE = 0.15
"""Of the elbow in one motion [rad]."""
LONGEST_TURN = 0.7
"""Time for which the elbow may turn in one motion [s]: more would make the hand wait for it."""
LARGEST_JOINT_CHANGE = 0.6
"""Of any joint from the measured one [rad]: more than a step needs is another way to hold it."""
MARGIN = 0.1
"""Distance of all joints from their limits [rad] without which the elbow stays where it is."""

ELBOW = 2
"""Index of the joint whose angle says where the elbow is."""

_FLANGE = FrankaKinematics(tool_length=0.0, tool_angle=0.0)


def elbow_angle(
    joints: np.ndarray,
    elbow: float,
    position: np.ndarray,
    rotation: Rotation,
    limits: JointLimits,
    speed: float,
) -> float:
    """Angle of the third joint [rad] at the end of a motion.

    Args:
        joints: measured [7] in radians.
        elbow: angle of the third joint that is commanded now [rad].
        position: of the flange at the end of the motion [3] in metres, base frame.
        rotation: of the flange then, base frame.
        limits: of the arm.
        speed: with which the third joint turns [rad/s].

    Returns:
        That of the solution nearest to the ready posture, or what lies on the way there; the
        present angle where that solution is not found, takes a joint near to a limit, or is far
        from the measured joints.
    """
    solved = _FLANGE.solve(joints, position, rotation, posture=READY_POSTURE)
    reached, turned = _FLANGE.forward(solved)
    if (
        math.dist(reached, position) > POSITION_TOLERANCE
        or float((turned * rotation.inv()).magnitude()) > ROTATION_TOLERANCE
        or limits.margins(solved).min() < MARGIN
        or float(np.abs(solved - joints).max()) > LARGEST_JOINT_CHANGE
    ):
        return elbow
    change = float(solved[ELBOW]) - elbow
    largest = min(LARGEST_CHANGE, speed * LONGEST_TURN)
    return elbow + min(max(change, -largest), largest)
