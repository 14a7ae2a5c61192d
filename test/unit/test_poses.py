# SPDX-License-Identifier: Apache-2.0
"""Pose algebra against scipy's rotations."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from vjepa2_ros.world_model.poses import (
    compose,
    difference,
    euler_from_matrix,
    matrix_from_euler,
    pose_from_state,
    state_from_pose,
)


def random_states(count, seed=0, turn=np.pi):
    generator = np.random.default_rng(seed)
    return torch.from_numpy(
        np.concatenate(
            [
                generator.normal(size=(count, 3)),
                generator.uniform(-turn, turn, (count, 3)),
                generator.uniform(0, 1, (count, 1)),
            ],
            axis=1,
        )
    )


def rotations(states):
    return Rotation.from_euler("xyz", states[..., 3:6].reshape(-1, 3).numpy())


def assert_same_rotation(ours, theirs, tolerance=1e-9):
    assert (ours * theirs.inv()).magnitude().max() < tolerance


def test_matrices_are_those_of_extrinsic_xyz_angles():
    states = random_states(200, turn=2 * np.pi)
    np.testing.assert_allclose(
        matrix_from_euler(states[:, 3:6]).numpy(), rotations(states).as_matrix(), atol=1e-12
    )


def test_angles_are_those_that_scipy_finds():
    wanted = Rotation.random(500, random_state=0)
    angles = euler_from_matrix(torch.from_numpy(wanted.as_matrix()))
    np.testing.assert_allclose(angles.numpy(), wanted.as_euler("xyz"), atol=1e-7)


@pytest.mark.parametrize("pitch", [np.pi / 2, -np.pi / 2, np.pi / 2 - 1e-4, -np.pi / 2 + 1e-9])
def test_rotations_survive_gimbal_lock(pitch):
    wanted = Rotation.from_euler(
        "xyz", [[roll, pitch, yaw] for roll in (-2, 0, 0.3) for yaw in (-1, 0, 2.5)]
    )
    angles = euler_from_matrix(torch.from_numpy(wanted.as_matrix()))
    assert_same_rotation(Rotation.from_euler("xyz", angles.numpy()), wanted, 1e-6)


def test_an_action_turns_the_pose_in_the_base_frame():
    states, actions = random_states(200), random_states(200, seed=1)
    after = compose(states, actions)
    assert_same_rotation(rotations(after), rotations(actions) * rotations(states))
    torch.testing.assert_close(after[:, :3], states[:, :3] + actions[:, :3])


def test_closedness_stays_between_open_and_closed():
    state, action = torch.zeros(7), torch.zeros(7)
    state[6] = 0.9
    for change, wanted in ((0.5, 1.0), (-2.0, 0.0), (-0.4, 0.5)):
        action[6] = change
        assert compose(state, action)[6] == pytest.approx(wanted)


def test_the_difference_of_two_states_leads_from_one_to_the_other():
    start, end = random_states(200), random_states(200, seed=1)
    reached = compose(start, difference(start, end))
    torch.testing.assert_close(reached[:, :3], end[:, :3])
    torch.testing.assert_close(reached[:, 6], end[:, 6])
    assert_same_rotation(rotations(reached), rotations(end))


def test_dtype_is_kept_and_shapes_are_broadcast():
    state, actions = (
        random_states(1)[0].float(),
        random_states(6, seed=1).float().unflatten(0, (2, 3)),
    )
    after = compose(state, actions)
    assert after.shape == (2, 3, 7) and after.dtype == torch.float32
    torch.testing.assert_close(after[1, 2], compose(state, actions[1, 2]))
    assert difference(state, actions).dtype == torch.float32


def test_a_robot_pose_survives_the_way_to_a_state_and_back():
    for rotation in Rotation.random(50, random_state=0):
        state = state_from_pose(np.array([0.4, -0.1, 0.3]), rotation.as_quat(), 0.25)
        position, quaternion, closedness = pose_from_state(state)
        np.testing.assert_allclose(position, [0.4, -0.1, 0.3])
        assert_same_rotation(Rotation.from_quat(quaternion), rotation, 1e-7)
        assert quaternion[3] >= 0 and closedness == 0.25


@pytest.mark.parametrize(
    ("position", "quaternion", "complaint"),
    [
        ([0, 0, np.nan], [0, 0, 0, 1], "finite"),
        ([0, 0, 0], [0, 0, np.inf, 1], "finite"),
        ([0, 0, 0], [0, 0, 0, 0], "zero quaternion"),
        ([0, 0], [0, 0, 0, 1], "3 \\+ 4 \\+ 1"),
    ],
)
def test_a_pose_that_is_none_is_refused(position, quaternion, complaint):
    with pytest.raises(ValueError, match=complaint):
        state_from_pose(np.array(position, dtype=float), np.array(quaternion, dtype=float), 0.0)


def test_a_state_that_is_not_finite_becomes_no_pose():
    with pytest.raises(ValueError, match="finite"):
        pose_from_state(np.full(7, np.nan))


@pytest.mark.parametrize("length", [1e7, 1e200])
def test_a_quaternion_whose_square_overflows_is_refused(length):
    """It was read as no rotation at all."""
    with pytest.raises(ValueError, match="quaternion of length"):
        state_from_pose(np.zeros(3), np.array([length, 0.0, 0.0, 0.0]), 0.0)
