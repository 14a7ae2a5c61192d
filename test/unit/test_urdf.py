# SPDX-License-Identifier: Apache-2.0
"""The description of the arm for viewers, against MuJoCo and the kinematics of the checks."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import vjepa2_ros.simulation
from vjepa2_ros.robot.kinematics import JOINT_LIMITS, READY_POSTURE, FrankaKinematics
from vjepa2_ros.robot.urdf import franka_urdf, link_transforms, prefix_of

STROKE = 0.08
MESHES = Path(vjepa2_ros.simulation.__file__).parent / "assets" / "meshes"


@pytest.fixture(scope="module")
def arm():
    from vjepa2_ros.simulation.rendering import mujoco

    urdf = franka_urdf("fr3_", "base", JOINT_LIMITS["fr3"], STROKE, str(MESHES))
    # MuJoCo joins links without a joint of their own unless told not to, wants masses, and reads
    # meshes by their bare names.
    options = (
        '<mujoco><compiler fusestatic="false" boundmass="1" boundinertia="0.01" '
        f'meshdir="{MESHES}"/></mujoco></robot>'
    )
    model = mujoco.MjModel.from_xml_string(urdf.replace("</robot>", options))
    return mujoco, model, mujoco.MjData(model)


def placed(links, frame):
    """Position and rotation of a frame in the base, through the chain of transforms."""
    by_child = {link.child: link for link in links}
    position, rotation = np.zeros(3), Rotation.identity()
    while frame != "base":
        link = by_child[frame]
        position, rotation = link.position + link.rotation.apply(position), link.rotation * rotation
        frame = link.parent
    return position, rotation


@pytest.mark.parametrize("seed", range(5))
def test_every_link_is_where_mujoco_puts_it(arm, seed):
    mujoco, model, data = arm
    limits = JOINT_LIMITS["fr3"]
    joints = np.random.default_rng(seed).uniform(limits.lower, limits.upper)
    data.qpos[:7], data.qpos[7:] = joints, 0.03
    mujoco.mj_kinematics(model, data)
    links = link_transforms("fr3_", "base", joints, 0.06)
    assert len(links) == 13
    for link in links:
        position, rotation = placed(links, link.child)
        np.testing.assert_allclose(position, data.body(link.child).xpos, atol=1e-6)
        true = Rotation.from_quat(data.body(link.child).xquat, scalar_first=True)
        assert (rotation * true.inv()).magnitude() < 1e-6


def test_the_tool_is_where_commands_are_checked():
    links = link_transforms("fr3_", "base", READY_POSTURE, STROKE)
    position, rotation = FrankaKinematics().forward(READY_POSTURE)
    tool = placed(links, "fr3_hand_tcp")
    np.testing.assert_allclose(tool[0], position, atol=1e-9)
    assert (tool[1] * rotation.inv()).magnitude() < 1e-6


def test_joints_have_the_limits_of_the_arm(arm):
    _, model, _ = arm
    limits = JOINT_LIMITS["fr3"]
    np.testing.assert_allclose(model.jnt_range[:7], np.stack([limits.lower, limits.upper], axis=1))
    np.testing.assert_allclose(model.jnt_range[7:], [[0.0, STROKE / 2]] * 2)


@pytest.mark.parametrize(
    "names, prefix",
    [
        ([f"fr3_joint{number}" for number in range(1, 8)], "fr3_"),
        ([f"left/panda_joint{number}" for number in range(1, 8)], "left/panda_"),
        ([f"joint{number}" for number in range(1, 8)], ""),
        ([f"fr3_joint{number}" for number in range(7)], None),
        ([f"fr3_joint{number}" for number in (1, 2, 3, 4, 5, 7, 6)], None),
        (["shoulder"] * 7, None),
        ([], None),
    ],
)
def test_links_are_named_like_the_joints_of_a_franka_arm(names, prefix):
    assert prefix_of(names) == prefix
