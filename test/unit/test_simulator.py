# SPDX-License-Identifier: Apache-2.0
"""The simulated cell: repeatable, bounded, and looking like a camera and an arm."""

import os
import subprocess
import sys

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vjepa2_ros.settings.cell import Workspace
from vjepa2_ros.simulation.rendering import mujoco
from vjepa2_ros.simulation.simulator import (
    DOWN,
    GRASP_HEIGHTS,
    OBJECTS,
    REST_HEIGHTS,
    Simulator,
    SimulatorConfig,
)


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


def test_cup_and_box_stand_upright_and_the_cup_is_turned(simulator):
    turned = []
    for seed in range(5):
        simulator.reset(seed)
        np.testing.assert_allclose(simulator.object_tilts(), 0.0, atol=1e-6)
        np.testing.assert_allclose(simulator.object_positions()[:, 2], REST_HEIGHTS, atol=1e-6)
        turned.append(simulator.data.body("cup").xmat[0])
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


@pytest.mark.parametrize("number", range(len(OBJECTS)))
def test_a_closing_gripper_holds_an_object_and_lifts_it(simulator, number):
    simulator.reset(4)
    simulator.data.joint("box").qpos[:] = [0.5, 0.0, REST_HEIGHTS[1], 1.0, 0.0, 0.0, 0.0]
    simulator.data.joint("cup").qpos[:2] = [0.4, 0.2]
    place = np.append([(0.4, 0.2), (0.5, 0.0)][number], GRASP_HEIGHTS[number])
    simulator.place(place, DOWN, 0.0)
    np.testing.assert_array_equal(simulator.held(), [False, False])
    for height, closedness, seconds in ((0.0, 1.0, 1.0), (0.12, 1.0, 1.5)):
        target = place + [0.0, 0.0, height]
        simulator.set_target(target, DOWN.as_quat(), closedness)
        simulator.advance(seconds)
    assert simulator.object_positions()[number, 2] > REST_HEIGHTS[number] + 0.1
    assert simulator.held().tolist() == [number == 0, number == 1]
    assert simulator.object_tilts()[number] < 0.2
    assert 0.2 < simulator.pose()[2] < 0.65


def test_the_gripper_closes_over_the_bare_table_within_the_planners_step(simulator):
    simulator.reset(4)
    for name, place in (("cup", (0.4, 0.2)), ("box", (0.4, -0.2))):
        simulator.data.joint(name).qpos[:2] = place
    simulator.place(np.array([0.55, 0.0, 0.03]), DOWN, 0.0)
    simulator.set_target(np.array([0.55, 0.0, 0.03]), DOWN.as_quat(), 1.0)
    assert simulator.commanded_closedness == 1.0
    simulator.advance(0.6)
    position, _, closedness = simulator.pose()
    assert closedness > 0.97
    np.testing.assert_allclose(position, [0.55, 0.0, 0.03], atol=2e-3)


def test_a_restored_cell_moves_on_exactly_as_it_did(simulator):
    def close_and_lift():
        for height, closedness in ((0.035, 1.0), (0.12, 1.0)):
            target = np.append(simulator.object_positions()[1, :2], height)
            simulator.set_target(target, DOWN.as_quat(), closedness)
            simulator.advance(0.8)
        return simulator.state(), simulator.object_positions(), simulator.render()

    simulator.reset(7, variant=3)
    simulator.place(np.append(simulator.object_positions()[1, :2], 0.035), DOWN, 0.25)
    before = simulator.snapshot()
    first = close_and_lift()
    simulator.reset(8)
    simulator.restore(before)
    assert (simulator.seed, simulator.commanded_closedness) == (7, 0.25)
    for value, expected in zip(close_and_lift(), first, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_the_tilt_of_an_object_is_the_angle_of_its_axis_to_the_vertical(simulator):
    simulator.reset(1)
    np.testing.assert_allclose(simulator.object_tilts(), 0.0, atol=1e-6)
    turned = Rotation.from_euler("zx", [0.7, 0.5])
    simulator.data.joint("cup").qpos[3:] = turned.as_quat()[[3, 0, 1, 2]]
    mujoco.mj_forward(simulator.model, simulator.data)
    np.testing.assert_allclose(simulator.object_tilts(), [0.5, 0.0], atol=1e-6)


def test_variants_of_a_seed_are_other_scenes(simulator):
    simulator.reset(5)
    places = simulator.object_positions()
    simulator.reset(5, variant=1)
    assert np.abs(simulator.object_positions() - places).max() > 0.01


def test_the_light_varies_by_seed_and_within_its_share():
    fixed, varied = Simulator(SimulatorConfig(light=0.0)), Simulator(SimulatorConfig(light=0.2))

    def light(simulator, seed):
        simulator.reset(seed)
        headlight, lamp = simulator.model.vis.headlight, simulator.model.light("lamp")
        return np.array([headlight.ambient[0], headlight.diffuse[0], lamp.diffuse[0]])

    nominal = light(fixed, 0)
    np.testing.assert_array_equal(light(fixed, 1), nominal)
    shares = np.array([light(varied, seed) / nominal for seed in range(10)])
    assert (np.abs(shares - 1) <= 0.2 + 1e-6).all()
    assert (shares.std(axis=0) > 0.03).all()
    images = []
    for simulator in (fixed, varied):
        simulator.reset(1)
        images.append(simulator.render(64).astype(float))
    assert np.abs(images[1] - images[0]).mean() > 1.0


@pytest.mark.parametrize(("most", "turned"), [(0.0, False), (0.3, True)])
def test_the_box_is_turned_by_at_most_its_yaw(most, turned):
    simulator = Simulator(SimulatorConfig(box_yaw=most))
    yaws = []
    for seed in range(10):
        simulator.reset(seed)
        rotation = Rotation.from_matrix(simulator.data.body("box").xmat.reshape(3, 3))
        yaws.append(rotation.as_euler("zyx")[0])
    assert np.abs(yaws).max() <= most + 1e-6
    assert (np.std(yaws) > 0.05) == turned


def test_joints_and_links_have_the_names_of_the_franka_control_interface(simulator):
    model = simulator.model
    joints = [model.joint(number).name for number in range(9)]
    assert joints == [f"fr3_joint{n}" for n in range(1, 8)] + ["finger_joint1", "finger_joint2"]
    assert [model.body(f"link{number}").name for number in range(9)]
    assert model.camera("exterior").name == "exterior"


def test_every_link_and_both_fingers_collide_with_table_and_objects(simulator):
    model = simulator.model
    links = [f"link{number}" for number in range(8)] + ["hand", "left_finger", "right_finger"]
    others = [*model.body("world").geomadr, *(model.body(name).geomadr[0] for name in OBJECTS)]
    for name in links:
        body = model.body(name)
        geoms = range(body.geomadr[0], body.geomadr[0] + body.geomnum[0])
        for other in others:
            assert any(
                model.geom_contype[geom] & model.geom_conaffinity[other]
                or model.geom_contype[other] & model.geom_conaffinity[geom]
                for geom in geoms
            ), name


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
