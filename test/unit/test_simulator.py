# SPDX-License-Identifier: Apache-2.0
"""The simulated cell: repeatable, bounded, and looking like a camera and an arm."""

import os
import subprocess
import sys

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vjepa2_ros.settings.cell import Workspace
from vjepa2_ros.simulation.simulator import DOWN, Simulator, SimulatorConfig


@pytest.fixture(scope="module")
def simulator():
    return Simulator()


def test_the_same_seed_gives_the_same_scene_and_image(simulator):
    simulator.reset(5)
    state, objects, image = simulator.state(), simulator.object_positions(), simulator.render()
    simulator.reset(6)
    assert np.abs(simulator.object_positions() - objects).max() > 0.01
    simulator.reset(5)
    np.testing.assert_array_equal(simulator.state(), state)
    np.testing.assert_array_equal(simulator.render(), image)


def test_start_poses_and_objects_lie_in_their_boxes_and_apart(simulator):
    config = simulator.config
    for seed in range(20):
        simulator.reset(seed)
        position = simulator.pose()[0]
        assert (position >= np.array(config.workspace.lower) - 2e-3).all()
        assert (position <= np.array(config.workspace.upper) + 2e-3).all()
        cup, box = simulator.object_positions()
        assert np.linalg.norm((cup - box)[:2]) > config.object_spacing


def test_cup_and_box_stand_upright_and_are_turned(simulator):
    turned = []
    for seed in range(5):
        simulator.reset(seed)
        for name in ("cup", "box"):
            rotation = simulator.data.body(name).xmat.reshape(3, 3)
            np.testing.assert_allclose(rotation[2], [0.0, 0.0, 1.0], atol=1e-6)
            turned.append(rotation[0, 0])
    assert np.std(turned) > 0.1


def test_a_step_of_the_planners_bound_ends_within_a_millimetre_in_one_second(simulator):
    simulator.reset(1)
    start = np.array([0.5, 0.0, 0.25])
    simulator.place(start, DOWN, 0.0)
    target = start + [0.075, -0.075, 0.075]
    simulator.set_target(target, DOWN.as_quat(), 1.0)
    simulator.advance(1.0)
    position, quaternion, closedness = simulator.pose()
    assert np.linalg.norm(position - target) < 1e-3
    assert (DOWN * Rotation.from_quat(quaternion).inv()).magnitude() < 5e-3
    assert closedness > 0.98


def test_the_hand_never_exceeds_its_speed(simulator):
    simulator.reset(2)
    simulator.place(np.array([0.4, -0.2, 0.3]), DOWN, 0.0)
    simulator.set_target(np.array([0.6, 0.2, 0.1]), DOWN.as_quat(), 0.0)
    places = [simulator.pose()[0]]
    for _ in range(150):
        simulator.advance(0.02)
        places.append(simulator.pose()[0])
    speed = np.linalg.norm(np.diff(places, axis=0), axis=1) / 0.02
    assert speed.max() < 1.1 * simulator.config.max_speed
    assert simulator.settled()


def test_a_halt_in_mid_motion_brakes_within_centimetres_and_holds(simulator):
    simulator.reset(2)
    simulator.place(np.array([0.4, -0.2, 0.3]), DOWN, 0.0)
    simulator.set_target(np.array([0.6, 0.2, 0.3]), DOWN.as_quat(), 0.0)
    simulator.advance(0.6)
    moving = simulator.pose()[0]
    simulator.halt()
    simulator.advance(0.6)
    halted = simulator.pose()[0]
    simulator.advance(0.5)
    assert np.linalg.norm(halted - moving) < 0.04
    assert np.linalg.norm(simulator.pose()[0] - halted) < 5e-4


def test_a_new_target_in_mid_motion_replaces_the_old_one(simulator):
    simulator.reset(2)
    simulator.place(np.array([0.5, 0.0, 0.3]), DOWN, 0.0)
    simulator.set_target(np.array([0.6, 0.1, 0.3]), DOWN.as_quat(), 0.0)
    simulator.advance(0.3)
    simulator.set_target(np.array([0.45, 0.0, 0.25]), DOWN.as_quat(), 0.0)
    simulator.advance(1.5)
    np.testing.assert_allclose(simulator.pose()[0], [0.45, 0.0, 0.25], atol=1e-3)


@pytest.mark.parametrize("target", [np.nan, np.inf])
def test_a_target_that_is_not_finite_is_refused_and_nothing_moves(simulator, target):
    simulator.reset(3)
    before = simulator.pose()[0]
    with pytest.raises(ValueError, match="finite"):
        simulator.set_target(np.array([0.5, target, 0.2]), DOWN.as_quat(), 0.0)
    simulator.advance(0.3)
    np.testing.assert_allclose(simulator.pose()[0], before, atol=1e-3)


def test_a_closing_gripper_holds_the_box_and_lifts_it(simulator):
    simulator.reset(4)
    box = simulator.data.joint("box")
    box.qpos[:] = [0.5, 0.0, 0.025, 1.0, 0.0, 0.0, 0.0]
    simulator.data.joint("cup").qpos[:2] = [0.4, 0.2]
    # the fingers of a hand pointing down open along y, the box is 7 cm long there and 5 cm along x
    across = Rotation.from_euler("z", np.pi / 2) * DOWN
    simulator.place(np.array([0.5, 0.0, 0.025]), across, 0.0)
    for height, closedness, seconds in ((0.025, 1.0, 1.0), (0.15, 1.0, 1.5)):
        simulator.set_target(np.array([0.5, 0.0, height]), across.as_quat(), closedness)
        simulator.advance(seconds)
    assert simulator.object_positions()[1, 2] > 0.1
    assert 0.2 < simulator.pose()[2] < 0.6


def test_the_image_shows_what_the_intrinsics_say(simulator):
    """A cup laid at a known place appears where the pinhole matrix projects it."""
    simulator.reset(0)
    simulator.place(np.array([0.4, -0.2, 0.35]), DOWN, 0.0)
    simulator.data.joint("cup").qpos[:3] = [0.6, 0.1, 0.045]
    simulator.data.joint("box").qpos[:3] = [0.4, 0.2, 0.025]
    simulator.advance(0.02)
    image = simulator.render(256).astype(int)
    camera = simulator.data.camera("exterior")
    rotation = camera.xmat.reshape(3, 3) @ np.diag([1.0, -1.0, -1.0])
    seen = (
        simulator.camera_matrix(256) @ rotation.T @ (simulator.object_positions()[0] - camera.xpos)
    )
    blue = image[..., 2] - image[..., 0] > 40
    rows, columns = np.nonzero(blue)
    assert np.hypot(columns.mean() - seen[0] / seen[2], rows.mean() - seen[1] / seen[2]) < 5


@pytest.mark.parametrize("command", ["evaluate", "train", "bench planning"])
def test_a_command_ends_with_one_line_where_nothing_can_be_rendered(command, tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "vjepa2_ros.cli.main", *command.split()],
        env={**os.environ, "MUJOCO_GL": "nonsense"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1 and "MUJOCO_GL=nonsense" in ended.stderr


def test_a_renderer_that_cannot_be_created_says_what_to_install():
    script = (
        "from vjepa2_ros.simulation import SimulatorError\n"
        "from vjepa2_ros.simulation.simulator import Simulator\n"
        "try:\n    Simulator().render()\n"
        "except SimulatorError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "MUJOCO_GL": "off"}
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60
    )
    assert "libegl1" in ended.stdout and "MUJOCO_GL=off" in ended.stdout


def test_start_poses_lie_in_the_workspace_of_the_cell():
    box = Workspace(lower=(0.45, -0.05, 0.25), upper=(0.55, 0.05, 0.35))
    simulator = Simulator(SimulatorConfig(workspace=box))
    for seed in range(5):
        simulator.reset(seed)
        position = simulator.pose()[0]
        assert (position > np.array(box.lower) - 2e-3).all()
        assert (position < np.array(box.upper) + 2e-3).all()
