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
MARGIN = 0.1
"""Distance of all joints from their limits [rad] without which the elbow stays where it is."""

ELBOW = 2
"""Index of the joint whose angle says where the elbow is."""

_FLANGE = FrankaKinematics(tool_length=0.0, tool_angle=0.0)


def elbow_angle(
    joints: np.ndarray,
    position: np.ndarray,
    rotation: Rotation,
    limits: JointLimits,
    speed: float,
) -> float:
    """Angle of the third joint [rad] at the end of a motion.

    Args:
        joints: measured [7] in radians.
        position: of the flange at the end of the motion [3] in metres, base frame.
        rotation: of the flange then, base frame.
        limits: of the arm.
        speed: with which the third joint turns [rad/s].

    Returns:
        That of the solution nearest to the ready posture, or what lies on the way there; the
        measured angle where that solution is not found, or takes a joint near to a limit.
    """
    measured = float(joints[ELBOW])
    solved = _FLANGE.solve(joints, position, rotation, posture=READY_POSTURE)
    reached, turned = _FLANGE.forward(solved)
    if (
        math.dist(reached, position) > POSITION_TOLERANCE
        or float((turned * rotation.inv()).magnitude()) > ROTATION_TOLERANCE
        or limits.margins(solved).min() < MARGIN
    ):
        return measured
    change = float(solved[ELBOW]) - measured
    largest = min(LARGEST_CHANGE, speed * LONGEST_TURN)
    return measured + min(max(change, -largest), largest)
