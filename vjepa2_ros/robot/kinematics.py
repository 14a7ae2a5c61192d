# SPDX-License-Identifier: Apache-2.0
"""Kinematics of the Franka arm by its published Denavit-Hartenberg parameters.

It answers whether a pose can be reached and how near to its limits the joints get, without a robot
and without a simulator. Panda and FR3 differ in their limits only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

FRANKA_HAND_LENGTH = 0.1034
"""From the flange to the tool centre point of the Franka Hand with its own fingertips [m]."""
FRANKA_HAND_ANGLE = -math.pi / 4
"""About the flange's z axis to the hand [rad]."""

# Craig's convention: a and alpha from the frame before, along and about x; d along z.
_A = (0.0, 0.0, 0.0, 0.0825, -0.0825, 0.0, 0.088)
_D = (0.333, 0.0, 0.316, 0.0, 0.384, 0.0, 0.0)
_ALPHA = (0.0, -math.pi / 2, math.pi / 2, math.pi / 2, -math.pi / 2, math.pi / 2, math.pi / 2)
FLANGE_LENGTH = 0.107
"""From the last joint to the flange [m]."""
JOINT_ORIGINS = tuple(
    ((a, -math.sin(alpha) * d, math.cos(alpha) * d), alpha)
    for a, alpha, d in zip(_A, _ALPHA, _D, strict=True)
)
"""Where each joint is in the frame before: position [m] and roll [rad]."""

READY_POSTURE = np.array([0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785])
"""Joint angles of Franka's ready posture [rad]: the elbow up, all joints far from their limits."""

_LONGEST_STEP = 0.3  # of a joint in one iteration [rad]; the linearisation holds no further
_CONVERGED = 1e-7  # [m] and [rad]
_POSTURE_RATE = 0.5  # share of the way to the posture in one iteration
_POSTURE_CONVERGED = 1e-4  # [rad]


@dataclass(frozen=True)
class JointLimits:
    """Between which angles the joints can move.

    Attributes:
        lower, upper: [7] in radians.
    """

    lower: np.ndarray
    upper: np.ndarray

    def margins(self, joints: np.ndarray) -> np.ndarray:
        """How far each joint is from its nearer limit [7] rad; negative beyond it."""
        return np.minimum(joints - self.lower, self.upper - joints)


JOINT_LIMITS = {
    "fr3": JointLimits(
        np.array([-2.9007, -1.8361, -2.9007, -3.0770, -2.8763, 0.4398, -3.0508]),
        np.array([2.9007, 1.8361, 2.9007, -0.1169, 2.8763, 4.6216, 3.0508]),
    ),
    "panda": JointLimits(
        np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973]),
        np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973]),
    ),
}
"""By the name of the arm."""


class FrankaKinematics:
    """Forward and inverse kinematics of the tool centre point in the base frame.

    Args:
        tool_length: from the flange to the tool centre point, along the flange's z axis [m].
        tool_angle: of the tool about the flange's z axis [rad].
        damping: of the least squares, dimensionless; keeps the steps short near a singularity.
    """

    def __init__(
        self,
        tool_length: float = FRANKA_HAND_LENGTH,
        tool_angle: float = FRANKA_HAND_ANGLE,
        damping: float = 0.03,
    ) -> None:
        self._links = np.stack([_link(*row) for row in zip(_A, _ALPHA, _D, strict=True)])
        self._tool = _link(0.0, 0.0, FLANGE_LENGTH + tool_length)
        cos, sin = math.cos(tool_angle), math.sin(tool_angle)
        self._tool[:2, :2] = [[cos, -sin], [sin, cos]]
        self._damping = damping**2 * np.eye(6)

    def forward(self, joints: np.ndarray) -> tuple[np.ndarray, Rotation]:
        """Position [3] in metres and rotation of the tool at joint angles [7] in radians."""
        tool = self.frames(joints)[-1]
        return tool[:3, 3].copy(), Rotation.from_matrix(tool[:3, :3])

    def jacobian(self, joints: np.ndarray) -> np.ndarray:
        """Geometric Jacobian [6, 7] at joint angles [7] in radians.

        Rows are the tool's velocity [m/s] and angular velocity [rad/s] in the base frame.
        """
        return _jacobian(self.frames(joints))

    def solve(
        self,
        start_joints: np.ndarray,
        position: np.ndarray,
        rotation: Rotation,
        iterations: int = 50,
        posture: np.ndarray | None = None,
    ) -> np.ndarray:
        """Joint angles of a pose by damped least squares.

        Seven joints can hold one pose in many ways: the solution is near the angles that it starts
        from, or as near to a posture as the pose allows.

        Args:
            start_joints: [7] in radians.
            position: of the tool [3] in metres, base frame.
            rotation: of the tool, base frame.
            iterations: most steps; it ends earlier where it has converged.
            posture: joint angles [7] in radians that the free motion is drawn to; None: none.

        Returns:
            [7] in radians. They are not clipped to limits, so that a caller sees a limit that is in
            the way; whether the pose was reached is seen with `forward`.
        """
        joints = np.array(start_joints, float)
        target = rotation.as_matrix()
        error = np.empty(6)
        for _ in range(iterations):
            frames = self.frames(joints)
            error[:3] = position - frames[-1, :3, 3]
            error[3:] = _rotation_vector(target @ frames[-1, :3, :3].T)
            jacobian = _jacobian(frames)
            free = np.zeros(7)
            if posture is not None:
                drawn = _POSTURE_RATE * (posture - joints)
                # Not damped: what that leaves of the hand's motion would keep the pose off.
                free = drawn - np.linalg.pinv(jacobian, 1e-6) @ (jacobian @ drawn)
            if np.abs(error).max() < _CONVERGED and np.abs(free).max() < _POSTURE_CONVERGED:
                break
            step = free + jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + self._damping, error)
            # Scaled as a whole, so that the tool keeps its direction.
            joints += step * min(1.0, _LONGEST_STEP / max(np.abs(step).max(), 1e-12))
        return joints

    def frames(self, joints: np.ndarray) -> np.ndarray:
        """Frames of the joints and of the tool [8, 4, 4] in the base frame, at angles [7] rad."""
        cos, sin = np.cos(joints), np.sin(joints)
        turns = np.zeros((7, 4, 4))
        turns[:, 0, 0] = turns[:, 1, 1] = cos
        turns[:, 1, 0] = sin
        turns[:, 0, 1] = -sin
        turns[:, 2, 2] = turns[:, 3, 3] = 1.0
        # Craig's d is along the z axis about which theta turns, so the two commute.
        links = self._links @ turns
        frames = np.empty((8, 4, 4))
        frames[0] = links[0]
        for i in range(1, 7):
            frames[i] = frames[i - 1] @ links[i]
        frames[7] = frames[6] @ self._tool
        return frames


def _link(a: float, alpha: float, d: float) -> np.ndarray:
    """A link's frame [4, 4] in that of the one before, at joint angle 0."""
    cos, sin = math.cos(alpha), math.sin(alpha)
    return np.array(
        [[1, 0, 0, a], [0, cos, -sin, -sin * d], [0, sin, cos, cos * d], [0, 0, 0, 1]], float
    )


def _jacobian(frames: np.ndarray) -> np.ndarray:
    axes = frames[:7, :3, 2]
    arms = frames[7, :3, 3] - frames[:7, :3, 3]
    jacobian = np.empty((6, 7))
    # np.cross costs as much as all of the rest.
    jacobian[0] = axes[:, 1] * arms[:, 2] - axes[:, 2] * arms[:, 1]
    jacobian[1] = axes[:, 2] * arms[:, 0] - axes[:, 0] * arms[:, 2]
    jacobian[2] = axes[:, 0] * arms[:, 1] - axes[:, 1] * arms[:, 0]
    jacobian[3:] = axes.T
    return jacobian


def _rotation_vector(matrix: np.ndarray) -> np.ndarray:
    """Axis times angle [3] of a rotation matrix [3, 3]."""
    return Rotation.from_matrix(matrix).as_rotvec()
