# SPDX-License-Identifier: Apache-2.0
"""The state of a Franka arm as the Franka control interface (FCI) sends it: layout and errors.

An array of this type is filled and sent as it is: packing each field by itself, a thousand times a
second, would cost more than the physics.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

STATE = np.dtype(
    [
        ("O_T_EE", "<f4", 16),
        ("O_T_EE_d", "<f4", 16),
        ("F_T_EE", "<f4", 16),
        ("EE_T_K", "<f4", 16),
        ("F_T_NE", "<f4", 16),
        ("NE_T_EE", "<f4", 16),
        ("m_ee", "<f4"),
        ("I_ee", "<f4", 9),
        ("F_x_Cee", "<f4", 3),
        ("m_load", "<f4"),
        ("I_load", "<f4", 9),
        ("F_x_Cload", "<f4", 3),
        ("elbow", "<f4", 2),
        ("elbow_d", "<f4", 2),
        ("tau_J", "<f4", 7),
        ("tau_J_d", "<f4", 7),
        ("dtau_J", "<f4", 7),
        ("q", "<f4", 7),
        ("q_d", "<f4", 7),
        ("dq", "<f4", 7),
        ("dq_d", "<f4", 7),
        ("ddq_d", "<f4", 7),
        ("joint_contact", "<f4", 7),
        ("cartesian_contact", "<f4", 6),
        ("joint_collision", "<f4", 7),
        ("cartesian_collision", "<f4", 6),
        ("tau_ext_hat_filtered", "<f4", 7),
        ("O_F_ext_hat_K", "<f4", 6),
        ("K_F_ext_hat_K", "<f4", 6),
        ("O_dP_EE_d", "<f4", 6),
        ("O_ddP_O", "<f4", 3),
        ("elbow_c", "<f4", 2),
        ("delbow_c", "<f4", 2),
        ("ddelbow_c", "<f4", 2),
        ("O_T_EE_c", "<f4", 16),
        ("O_dP_EE_c", "<f4", 6),
        ("O_ddP_EE_c", "<f4", 6),
        ("theta", "<f4", 7),
        ("dtheta", "<f4", 7),
        ("accelerometer_top", "<f4", 18),
        ("accelerometer_bottom", "<f4", 18),
        ("motion_generator_mode", "u1"),
        ("controller_mode", "u1"),
        ("errors", "u1", 41),
        ("reflex_reason", "u1", 41),
        ("robot_mode", "u1"),
        ("control_command_success_rate", "<f4"),
    ]
)
"""One state; poses are 4 x 4 matrices in column-major order, names and units those of libfranka."""


class Error(IntEnum):
    """Places of the errors that the simulated arm raises, in `errors` and `reflex_reason`."""

    JOINT_REFLEX = 6
    CARTESIAN_REFLEX = 7
    JOINT_MOTION_GENERATOR_POSITION_LIMITS_VIOLATION = 12
    JOINT_MOTION_GENERATOR_VELOCITY_LIMITS_VIOLATION = 13
    COMMUNICATION_CONSTRAINTS_VIOLATION = 25
    CARTESIAN_MOTION_GENERATOR_JOINT_POSITION_LIMITS_VIOLATION = 27
    CARTESIAN_MOTION_GENERATOR_JOINT_VELOCITY_LIMITS_VIOLATION = 28


def column_major(pose: np.ndarray) -> np.ndarray:
    """A pose [4, 4] as the 16 numbers that are sent."""
    return pose.T.ravel()


def pose_matrix(numbers: tuple[float, ...] | np.ndarray) -> np.ndarray:
    """A pose [4, 4] of 16 numbers that were sent."""
    return np.asarray(numbers, float).reshape(4, 4).T
