# SPDX-License-Identifier: Apache-2.0
"""Whether the arm can go to a target from where it is, within the limits of its joints.

What is attached to the flange need not be known: the measured joints and the measured pose say
where the tool centre point is on the arm.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial.transform import Rotation

from vjepa2_ros.robot.arrival import POSITION_TOLERANCE, ROTATION_TOLERANCE
from vjepa2_ros.robot.driver import RobotDescription, RobotState
from vjepa2_ros.robot.kinematics import FrankaKinematics

ITERATIONS = 12
"""Most steps of the inverse kinematics; a step of a plan takes four to eight."""


class Reachability:
    """Inverse kinematics from the measured joints, within their limits.

    Args:
        kinematics: of the arm with any tool.
        lower, upper: limits of the joints [7] in radians.
    """

    def __init__(self, kinematics: FrankaKinematics, lower: np.ndarray, upper: np.ndarray) -> None:
        self._kinematics = kinematics
        self._lower, self._upper = lower, upper
        # Pose of the tool centre point in the frame that the kinematics call the tool.
        self._tool: tuple[np.ndarray, Rotation] | None = None

    @classmethod
    def of(cls, description: RobotDescription) -> Reachability | None:
        """The check for a robot; None if its kinematics or joint limits are not known."""
        lower, upper = description.joint_lower, description.joint_upper
        if description.kinematics is None or lower is None or upper is None:
            return None
        return cls(description.kinematics, lower, upper)

    def problem(
        self, position: np.ndarray, quaternion_xyzw: np.ndarray, state: RobotState, margin: float
    ) -> str:
        """Why the arm cannot go to a pose, in words; empty if it can, or if that is unknown.

        It is unknown for a state without joints, and while the tool centre point is not where it
        was on the arm at the first call: then the kinematics, or the tool, are not this robot's.

        Args:
            position: of the tool centre point [3] in metres, base frame.
            quaternion_xyzw: its orientation [4], unit length.
            state: measured and valid.
            margin: distance that every joint keeps from its limits [rad]; one that is nearer now
                may stay, but come no nearer.
        """
        joints = state.joint_positions
        if joints is None or not self._tool_is_rigid(joints, state):
            return ""
        assert self._tool is not None
        offset, turn = self._tool
        rotation = Rotation.from_quat(quaternion_xyzw) * turn.inv()
        place = position - rotation.apply(offset)
        solved = self._kinematics.solve(joints, place, rotation, ITERATIONS)
        reached = self._kinematics.forward(solved)
        if not _same((place, rotation), reached):
            missed = math.dist(place, reached[0]) * 100
            return f"the arm would stay {missed:.1f} cm short of it or turned away from it"
        lower = np.minimum(self._lower + margin, joints)
        upper = np.maximum(self._upper - margin, joints)
        beyond = np.maximum(lower - solved, solved - upper)
        number = int(beyond.argmax())
        if beyond[number] <= 0.0:
            return ""
        left = min(solved[number] - self._lower[number], self._upper[number] - solved[number])
        return (
            f"joint {number + 1} would be {left:.3f} rad from its limit; joint_margin is "
            f"{margin:.3f} rad"
        )

    def _tool_is_rigid(self, joints: np.ndarray, state: RobotState) -> bool:
        position, rotation = self._kinematics.forward(joints)
        inverse = rotation.inv()
        tool = (
            inverse.apply(state.position - position),
            inverse * Rotation.from_quat(state.quaternion_xyzw),
        )
        if self._tool is None:
            self._tool = tool
        return _same(self._tool, tool)


def _same(first: tuple[np.ndarray, Rotation], second: tuple[np.ndarray, Rotation]) -> bool:
    turn = float((first[1] * second[1].inv()).magnitude())
    return math.dist(first[0], second[0]) < POSITION_TOLERANCE and turn < ROTATION_TOLERANCE
