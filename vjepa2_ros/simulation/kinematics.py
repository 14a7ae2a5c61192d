# SPDX-License-Identifier: Apache-2.0
"""Cartesian tracking for the simulated arm: a speed-limited reference and damped least squares.

The reference is not made with `ruckig`, whose limits are per axis: with a bound on the norm of the
speed a preempted motion would be slower or would need a frame of its own (0.05 ms a period here).
"""

import numpy as np
from scipy.spatial.transform import Rotation

from vjepa2_ros.robot.kinematics import READY_POSTURE
from vjepa2_ros.simulation.rendering import mujoco

HOME = READY_POSTURE
"""Joint angles [rad] of the posture that the null space pulls towards."""


class PoseReference:
    """A pose that moves to its target on a straight line with bounded speed and acceleration.

    The last control periods before a target may exceed `max_acceleration`, to end exactly on it.

    Args:
        max_speed: translation [m/s], norm.
        max_acceleration: translation [m/s²], norm, for starting and for braking.
        max_turn_rate: rotation [rad/s].
    """

    def __init__(self, max_speed: float, max_acceleration: float, max_turn_rate: float) -> None:
        self.max_speed = max_speed
        self.max_acceleration = max_acceleration
        self.max_turn_rate = max_turn_rate
        self.position = np.zeros(3)
        self.velocity = np.zeros(3)
        self.rotation = Rotation.identity()
        self.set(np.zeros(3), Rotation.identity())

    def set(self, position: np.ndarray, rotation: Rotation) -> None:
        """Jump to `position` [3] in metres and `rotation`, at rest."""
        self.position, self.rotation = np.array(position, float), rotation
        self.velocity = np.zeros(3)
        self.target_position, self.target_rotation = self.position.copy(), rotation

    def halt(self) -> None:
        """Brake within the acceleration limit; the target becomes the point where that ends."""
        speed = np.linalg.norm(self.velocity)
        self.target_position = self.position + self.velocity * speed / (2 * self.max_acceleration)
        self.target_rotation = self.rotation

    def settled(self) -> bool:
        """True when the reference is at rest at its target."""
        turn = (self.target_rotation * self.rotation.inv()).magnitude()
        return bool(
            np.linalg.norm(self.target_position - self.position) < 1e-4
            and turn < 1e-3
            and np.linalg.norm(self.velocity) < 1e-3
        )

    def advance(self, seconds: float) -> None:
        """Move by one control period of `seconds`."""
        offset = self.target_position - self.position
        distance = np.linalg.norm(offset)
        # The speed from which it can still brake in the distance left.
        speed = min(
            self.max_speed, np.sqrt(2 * self.max_acceleration * distance), distance / seconds
        )
        wanted = offset / distance * speed if distance > 1e-9 else np.zeros(3)
        change = wanted - self.velocity
        limit = self.max_acceleration * seconds
        if distance > limit * seconds and (size := np.linalg.norm(change)) > limit:
            change *= limit / size
        self.velocity = self.velocity + change
        self.position = self.position + self.velocity * seconds
        turn = (self.target_rotation * self.rotation.inv()).as_rotvec()
        angle = np.linalg.norm(turn)
        if angle > 1e-9:
            turn *= min(1.0, self.max_turn_rate * seconds / angle)
            self.rotation = Rotation.from_rotvec(turn) * self.rotation


class InverseKinematics:
    """Damped least squares on the tool site, with a null-space pull towards `HOME`.

    It works on its own `MjData`, so that a solution does not change the simulated world.

    Args:
        model: of the cell, with the site "tool".
        damping: of the least squares, dimensionless.
    """

    def __init__(self, model: mujoco.MjModel, damping: float = 0.03) -> None:
        self.model = model
        self.data = mujoco.MjData(model)
        self.site = model.site("tool").id
        self.damping = damping
        self.lower, self.upper = model.jnt_range[:7].T

    def step(self, joints: np.ndarray, position: np.ndarray, rotation: Rotation) -> np.ndarray:
        """Joint angles [7] rad one Newton step closer to the pose, within the joint limits."""
        self.data.qpos[:7] = joints
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        jacobian = np.zeros((6, self.model.nv))
        mujoco.mj_jacSite(self.model, self.data, jacobian[:3], jacobian[3:], self.site)
        jacobian = jacobian[:, :7]
        now = Rotation.from_matrix(self.data.site_xmat[self.site].reshape(3, 3))
        error = np.concatenate(
            [position - self.data.site_xpos[self.site], (rotation * now.inv()).as_rotvec()]
        )
        inverse = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + self.damping**2 * np.eye(6))
        null_space = np.eye(7) - inverse @ jacobian
        change = inverse @ error + null_space @ (0.1 * (HOME - joints))
        return np.clip(joints + np.clip(change, -0.3, 0.3), self.lower, self.upper)

    def solve(
        self,
        position: np.ndarray,
        rotation: Rotation,
        start: np.ndarray = HOME,
        iterations: int = 100,
    ) -> np.ndarray:
        """Joint angles [7] rad of the pose; beyond the joint limits, of the nearest pose found.

        Args:
            position: of the tool [3] in metres.
            rotation: of the tool.
            start: joint angles [7] rad to start from.
            iterations: number of Newton steps.
        """
        joints = np.array(start, float)
        for _ in range(iterations):
            joints = self.step(joints, position, rotation)
        return joints
