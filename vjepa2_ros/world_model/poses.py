# SPDX-License-Identifier: Apache-2.0
"""States and actions of V-JEPA 2-AC, and their conversion to and from robot poses.

A state is [x, y, z, roll, pitch, yaw, closedness] in the robot's base frame: metres, extrinsic xyz
Euler angles in radians, gripper closedness from 0 (open) to 1 (closed). An action is the change
between two states; its rotation is applied in the base frame: R_next = R(action) R.
"""

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

# Below this cosine of the pitch, roll and yaw rotate about the same axis (gimbal lock).
_GIMBAL_COSINE = 1e-7


def compose(state: Tensor, action: Tensor) -> Tensor:
    """State after an action.

    Args:
        state: [..., 7].
        action: [..., 7], broadcast with the state.

    Returns:
        State [..., 7] in the dtype of `state`. Rotations are computed in float64; angles are in
        (-pi, pi], the pitch in [-pi/2, pi/2], the yaw is 0 in gimbal lock. Closedness is clipped to
        [0, 1].
    """
    state, action = torch.broadcast_tensors(state, action)
    rotation = matrix_from_euler(action[..., 3:6].double()) @ matrix_from_euler(
        state[..., 3:6].double()
    )
    return torch.cat(
        [
            state[..., :3] + action[..., :3],
            euler_from_matrix(rotation).to(state.dtype),
            (state[..., 6:] + action[..., 6:]).clamp(0.0, 1.0),
        ],
        dim=-1,
    )


def difference(start: Tensor, end: Tensor) -> Tensor:
    """Action that leads from one state to another.

    Args:
        start: [..., 7].
        end: [..., 7], broadcast with `start`.

    Returns:
        Action [..., 7] in the dtype of `start`; the change of closedness is not clipped.
    """
    start, end = torch.broadcast_tensors(start, end)
    rotation = (
        matrix_from_euler(end[..., 3:6].double()) @ matrix_from_euler(start[..., 3:6].double()).mT
    )
    return torch.cat(
        [
            end[..., :3] - start[..., :3],
            euler_from_matrix(rotation).to(start.dtype),
            end[..., 6:] - start[..., 6:],
        ],
        dim=-1,
    )


def matrix_from_euler(angles: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] = Rz(yaw) Ry(pitch) Rx(roll) of angles [..., 3] in radians."""
    sin_roll, sin_pitch, sin_yaw = angles.sin().unbind(-1)
    cos_roll, cos_pitch, cos_yaw = angles.cos().unbind(-1)
    entries = [
        cos_yaw * cos_pitch,
        cos_yaw * sin_pitch * sin_roll - sin_yaw * cos_roll,
        cos_yaw * sin_pitch * cos_roll + sin_yaw * sin_roll,
        sin_yaw * cos_pitch,
        sin_yaw * sin_pitch * sin_roll + cos_yaw * cos_roll,
        sin_yaw * sin_pitch * cos_roll - cos_yaw * sin_roll,
        -sin_pitch,
        cos_pitch * sin_roll,
        cos_pitch * cos_roll,
    ]
    return torch.stack(entries, dim=-1).unflatten(-1, (3, 3))


def euler_from_matrix(matrix: Tensor) -> Tensor:
    """Extrinsic xyz angles [..., 3] in radians of rotation matrices [..., 3, 3]."""
    cos_pitch = torch.hypot(matrix[..., 0, 0], matrix[..., 1, 0])
    locked = cos_pitch < _GIMBAL_COSINE
    roll = torch.where(
        locked,
        torch.atan2(-matrix[..., 1, 2], matrix[..., 1, 1]),
        torch.atan2(matrix[..., 2, 1], matrix[..., 2, 2]),
    )
    pitch = torch.atan2(-matrix[..., 2, 0], cos_pitch)
    yaw = torch.where(locked, 0.0, torch.atan2(matrix[..., 1, 0], matrix[..., 0, 0]))
    return torch.stack([roll, pitch, yaw], dim=-1)


def state_from_pose(
    position: np.ndarray, quaternion_xyzw: np.ndarray, closedness: float
) -> np.ndarray:
    """State of a robot's pose.

    Args:
        position: [3], metres.
        quaternion_xyzw: [4], not necessarily of unit length.
        closedness: 0 (open) to 1 (closed).

    Returns:
        State [7] float64.

    Raises:
        ValueError: a value is not finite, or the quaternion is zero.
    """
    values = np.concatenate([position, quaternion_xyzw, [closedness]]).astype(np.float64)
    if values.shape != (8,) or not np.isfinite(values).all():
        raise ValueError(f"pose must be 3 + 4 + 1 finite numbers, got {values.tolist()}")
    if np.abs(values[3:7]).max() < 1e-6:
        raise ValueError("pose has a zero quaternion: its orientation was never set")
    # Its square would overflow, and the rotation be lost.
    if np.abs(values[3:7]).max() > 1e6:
        raise ValueError(f"pose has a quaternion of length {np.abs(values[3:7]).max():g}, not 1")
    angles = euler_from_matrix(
        torch.from_numpy(Rotation.from_quat(quaternion_xyzw).as_matrix())
    ).numpy()
    return np.concatenate([values[:3], angles, values[7:]])


def pose_from_state(state: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Robot's pose of a state [7].

    Returns:
        Position [3] in metres, quaternion xyzw [4] with w >= 0, closedness.

    Raises:
        ValueError: the state has another shape, or is not finite.
    """
    state = np.asarray(state, dtype=np.float64)
    if state.shape != (7,) or not np.isfinite(state).all():
        raise ValueError(f"state must be 7 finite numbers, got {state.tolist()}")
    quaternion = Rotation.from_euler("xyz", state[3:6]).as_quat(canonical=True)
    return state[:3].copy(), quaternion, float(state[6])
