# SPDX-License-Identifier: Apache-2.0
"""The motions of a Franka arm: towards a pose within the limit of speed, and to rest.

`measured` is a state of the arm as the client gives it (`franky.RobotState`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from vjepa2_ros.robot.franka_elbow import elbow_angle
from vjepa2_ros.robot.franka_limits import ArmLimits, MotionLimit
from vjepa2_ros.settings.franka import FrankaSettings

FARTHEST_COMMAND = 0.05
"""Of the commanded from the measured pose [m]: beyond it the arm does not follow."""
# External force [N] above which a stop holds the measured pose, so that it does not press on.
_TOUCHING = 5.0
# Way of the hand [m] below which the elbow stays where it is.
_STILL = 0.002


class FrankaMotions:
    """Makes the motions of one connected arm.

    Args:
        settings: of the arm.
        limits: of the arm's model.
        top_speed: limit of the hand's speed that is set on the arm, on each of its axes [m/s].
    """

    def __init__(self, settings: FrankaSettings, limits: ArmLimits, top_speed: float) -> None:
        self._settings = settings
        self._limits = limits
        self._top_speed = top_speed

    def towards(self, position: np.ndarray, quaternion_xyzw: np.ndarray, measured: Any) -> Any:
        """Motion to an absolute pose of the end effector, `position` [3] in metres, base frame."""
        import franky

        target = franky.Affine(position, quaternion_xyzw)
        way = position - np.asarray(measured.O_T_EE.translation).ravel()
        speed = self._speed_factor(way, measured.O_T_EE)
        elbow = float(measured.elbow_c.joint_3_pos)
        if float(np.linalg.norm(way)) >= _STILL:
            flange = target * measured.F_T_EE.inverse
            elbow = elbow_angle(
                np.array(measured.q, float),
                elbow,
                np.asarray(flange.translation).ravel(),
                Rotation.from_quat(flange.quaternion),
                self._limits.joint_positions,
                speed * float(self._limits.elbow.velocity),
            )
        return franky.CartesianMotion(
            franky.RobotPose(target, _elbow_state(elbow)),
            franky.ReferenceType.Absolute,
            relative_dynamics_factor=franky.RelativeDynamicsFactor(
                speed, self._settings.acceleration_factor, self._settings.jerk_factor
            ),
        )

    def stop(self, measured: Any) -> Any:
        """Motion to where the arm comes to rest when it brakes from its commanded motion.

        The client's own `CartesianStopMotion` ends where it begins: it goes on past that, and then
        back.
        """
        import franky

        factor, limits = self._settings.stop_factor, self._limits
        held, velocity = _held_pose(measured), measured.O_dP_EE_c
        hand = Rotation.from_quat(held.quaternion)

        def way_of(vector: np.ndarray, limit: MotionLimit) -> np.ndarray:
            # The limits hold on the axes of the hand.
            return hand.apply(_braking_way(hand.inv().apply(vector), limit, factor))

        way = way_of(np.asarray(velocity.linear), limits.translation)
        turn = way_of(np.asarray(velocity.angular), limits.rotation)
        elbow = _braking_way(np.array([measured.delbow_c]), limits.elbow, factor)
        rotation = Rotation.from_rotvec(turn) * hand
        return franky.CartesianMotion(
            franky.RobotPose(
                franky.Affine(np.asarray(held.translation) + way, rotation.as_quat()),
                _elbow_state(measured.elbow_c.joint_3_pos + elbow[0]),
            ),
            # With the whole range of speeds: a limit below the present speed ends the client's
            # motion with an error instead of braking it.
            relative_dynamics_factor=franky.RelativeDynamicsFactor(1.0, factor, factor),
        )

    def _speed_factor(self, way: np.ndarray, pose: Any) -> float:
        """Share of the arm's speed limits with which a motion keeps to `max_speed`.

        The client's limit holds on each axis of the hand: along a diagonal the speeds on the axes,
        which are in proportion to the ways, add up.
        """
        ways = np.abs(Rotation.from_quat(pose.quaternion).inv().apply(way))
        length = float(np.linalg.norm(ways))
        share = float(ways.max()) / length if length > 0.0 else 1.0
        return min(share * self._settings.max_speed / self._top_speed, 1.0)


def deviation(measured: Any) -> float:
    """Distance of the measured from the commanded pose while a motion is executed [m]."""
    import franky

    if measured.robot_mode != franky.RobotMode.Move:
        return 0.0
    way = np.asarray(measured.O_T_EE_c.translation) - np.asarray(measured.O_T_EE.translation)
    return float(np.linalg.norm(way))


def _held_pose(measured: Any) -> Any:
    """Pose of the end effector that a stop begins at."""
    import franky

    in_motion = measured.robot_mode == franky.RobotMode.Move
    touches = float(np.linalg.norm(measured.O_F_ext_hat_K[:3])) > _TOUCHING
    if not in_motion or touches or deviation(measured) > FARTHEST_COMMAND:
        return measured.O_T_EE
    return measured.O_T_EE_c


def _elbow_state(angle: float) -> Any:
    """The elbow at an angle of the third joint [rad]; the fourth is never positive."""
    import franky

    return franky.ElbowState(float(angle), franky.FlipDirection.Negative)


def _braking_way(velocity: np.ndarray, limit: MotionLimit, factor: float) -> np.ndarray:
    """Way [N] on which a velocity [N] is braked with a share of a limit's acceleration and jerk.

    The limit holds on each axis. Were the way longer than the fastest axis needs, the client would
    go faster first.
    """
    acceleration, jerk = factor * float(limit.acceleration), factor * float(limit.jerk)
    speed = float(np.abs(velocity).max())
    duration = speed / acceleration + acceleration / jerk
    if speed < acceleration**2 / jerk:
        # The acceleration does not reach its limit.
        duration = 2.0 * (speed / jerk) ** 0.5
    return velocity * duration / 2.0
