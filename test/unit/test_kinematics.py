# SPDX-License-Identifier: Apache-2.0
"""The arm's kinematics against MuJoCo's of the simulated cell."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vjepa2_ros.robot.kinematics import JOINT_LIMITS, FrankaKinematics
from vjepa2_ros.simulation.kinematics import HOME
from vjepa2_ros.simulation.rendering import mujoco
from vjepa2_ros.simulation.simulator import SCENE

LONG_FINGERTIPS = 0.1534
"""Of the scene's site "tool" from the flange [m]."""


@pytest.fixture(scope="module")
def model():
    return mujoco.MjModel.from_xml_path(str(SCENE))


@pytest.fixture
def kinematics():
    return FrankaKinematics(LONG_FINGERTIPS)


def postures(count):
    limits = JOINT_LIMITS["fr3"]
    return np.random.default_rng(3).uniform(limits.lower, limits.upper, (count, 7))


def test_poses_are_those_of_the_scene(model, kinematics):
    data, site = mujoco.MjData(model), model.site("tool").id
    for joints in postures(100):
        data.qpos[:7] = joints
        mujoco.mj_kinematics(model, data)
        position, rotation = kinematics.forward(joints)
        np.testing.assert_allclose(position, data.site_xpos[site], atol=1e-6)
        np.testing.assert_allclose(
            rotation.as_matrix(), data.site_xmat[site].reshape(3, 3), atol=1e-6
        )


def test_the_jacobian_is_that_of_the_scene(model, kinematics):
    data, site = mujoco.MjData(model), model.site("tool").id
    for joints in postures(100):
        data.qpos[:7] = joints
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        expected = np.zeros((6, model.nv))
        mujoco.mj_jacSite(model, data, expected[:3], expected[3:], site)
        np.testing.assert_allclose(kinematics.jacobian(joints), expected[:, :7], atol=1e-6)


def test_the_limits_are_those_of_the_scene(model):
    limits = JOINT_LIMITS["fr3"]
    np.testing.assert_array_equal(model.jnt_range[:7].T, [limits.lower, limits.upper])


def test_a_pose_near_the_start_is_solved_exactly(kinematics):
    random = np.random.default_rng(5)
    for _ in range(100):
        start = HOME + random.uniform(-0.4, 0.4, 7)
        position, rotation = kinematics.forward(start)
        position = position + random.uniform(-0.05, 0.05, 3)
        rotation = Rotation.from_rotvec(random.uniform(-0.1, 0.1, 3)) * rotation
        reached = kinematics.forward(kinematics.solve(start, position, rotation, 20))
        np.testing.assert_allclose(reached[0], position, atol=1e-6)
        assert (reached[1] * rotation.inv()).magnitude() < 1e-6


def test_a_limit_in_the_way_shows_in_the_solution(kinematics):
    limits = JOINT_LIMITS["fr3"]
    assert limits.margins(HOME).min() > 0.5
    # So near to the base that the elbow would have to fold further than it can.
    position = np.array([0.2, 0.0, 0.1])
    joints = kinematics.solve(HOME, position, kinematics.forward(HOME)[1])
    np.testing.assert_allclose(kinematics.forward(joints)[0], position, atol=1e-6)
    assert limits.margins(joints).min() < 0.0


def test_a_pose_out_of_reach_ends_short_of_it(kinematics):
    position, rotation = kinematics.forward(HOME)
    joints = kinematics.solve(HOME, np.array([1.5, 0.0, 0.3]), rotation)
    assert np.isfinite(joints).all()
    assert np.linalg.norm(kinematics.forward(joints)[0] - [1.5, 0.0, 0.3]) > 0.3


def test_the_hand_without_long_fingertips_is_the_default():
    short, _ = FrankaKinematics().forward(HOME)
    long, rotation = FrankaKinematics(LONG_FINGERTIPS).forward(HOME)
    np.testing.assert_allclose(long - short, rotation.apply([0.0, 0.0, 0.05]), atol=1e-12)


def test_with_a_posture_every_way_to_a_pose_ends_in_the_same_joints(kinematics):
    position, rotation = np.array([0.45, 0.2, 0.25]), kinematics.forward(HOME)[1]
    random = np.random.default_rng(6)
    solutions = [
        kinematics.solve(HOME + random.uniform(-0.4, 0.4, 7), position, rotation, posture=HOME)
        for _ in range(10)
    ]
    np.testing.assert_allclose(solutions, np.tile(solutions[0], (10, 1)), atol=2e-3)
    np.testing.assert_allclose(kinematics.forward(solutions[0])[0], position, atol=1e-6)
    away = [np.linalg.norm(joints - HOME) for joints in solutions]
    alone = kinematics.solve(HOME + [0, 0, 0.4, 0, 0, 0, 0], position, rotation)
    assert max(away) < np.linalg.norm(alone - HOME)
