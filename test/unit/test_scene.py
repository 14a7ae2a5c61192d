# SPDX-License-Identifier: Apache-2.0
"""Shapes and pictures for viewers."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vjepa2_ros.settings.simulator import CAMERA_POSE
from vjepa2_ros.simulation.simulator import Simulator
from vjepa2_ros.visualization.difference import PANEL, difference_image, patch_distances
from vjepa2_ros.visualization.landscape import landscape_image
from vjepa2_ros.visualization.scene import (
    ELITES,
    FRUSTUM_DEPTH,
    CameraView,
    PlannedStep,
    camera_shape,
    energy_colours,
    path_shape,
    plan_shapes,
    workspace_shape,
)

START = np.array([0.5, 0.0, 0.3])


def planned(count=40, horizon=2):
    random = np.random.default_rng(0)
    candidates = START + np.cumsum(random.normal(0, 0.03, (count, horizon, 3)), axis=1)
    energies = np.sort(random.uniform(0.1, 0.5, count))
    return PlannedStep(START, candidates[0], candidates, energies)


def test_a_plan_shows_every_candidate_from_the_start_to_its_end():
    step = planned()
    shapes = {shape.name: shape for shape in plan_shapes(step)}
    assert list(shapes) == ["candidates", "elites", "elite_ends", "chosen", "target"]
    ends = shapes["candidates"].ends.reshape(40, 2, 2, 3)
    np.testing.assert_array_equal(ends[:, 0, 0], np.tile(START, (40, 1)))
    np.testing.assert_array_equal(ends[:, 0, 1], step.candidates[:, 0])
    np.testing.assert_array_equal(ends[:, 1, 0], step.candidates[:, 0])
    np.testing.assert_array_equal(ends[:, 1, 1], step.candidates[:, 1])
    assert len(shapes["elites"].ends) == 2 * ELITES
    np.testing.assert_array_equal(shapes["elite_ends"].points, step.candidates[:ELITES, 1])
    np.testing.assert_array_equal(shapes["chosen"].ends[0], [START, step.path[0]])
    np.testing.assert_array_equal(shapes["target"].points, step.path[:1])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_plan_with_few_candidates_or_none_is_shown(count):
    step = planned()
    few = PlannedStep(START, step.path, step.candidates[:count], step.energies[:count])
    for shape in plan_shapes(few):
        points = shape.ends if hasattr(shape, "ends") else shape.points
        assert len(points) == len(shape.colours)


def test_the_colour_tells_the_rank_of_an_energy():
    colours = energy_colours(np.array([0.3, 0.1, 50.0, 0.2]))
    brightness = colours[:, :3].sum(1)
    assert np.argsort(-brightness).tolist() == [1, 3, 0, 2]
    assert (colours[:, 3] == 1.0).all()


def test_the_workspace_has_twelve_edges_of_its_sides_lengths():
    lower, upper = np.array([0.3, -0.2, 0.0]), np.array([0.7, 0.3, 0.6])
    ends = workspace_shape(lower, upper).ends
    lengths = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    assert sorted(np.round(lengths, 9)) == [0.4] * 4 + [0.5] * 4 + [0.6] * 4
    assert {tuple(point) for point in ends.reshape(-1, 3)} == {
        (x, y, z) for x in (0.3, 0.7) for y in (-0.2, 0.3) for z in (0.0, 0.6)
    }


def test_the_driven_path_joins_its_positions_in_order():
    positions = np.random.default_rng(0).normal(size=(5, 3))
    ends = path_shape(positions).ends
    np.testing.assert_array_equal(ends[:, 0], positions[:-1])
    np.testing.assert_array_equal(ends[:, 1], positions[1:])


@pytest.fixture(scope="module")
def simulator():
    simulator = Simulator()
    simulator.reset(0)
    return simulator


def test_the_pose_of_the_simulated_camera_is_the_scenes(simulator):
    camera = simulator.data.camera("exterior")
    np.testing.assert_allclose(CAMERA_POSE[:3], camera.xpos, atol=1e-4)
    # MuJoCo's camera looks along -z with y up; an optical frame along z with y down.
    optical = camera.xmat.reshape(3, 3) @ np.diag([1.0, -1.0, -1.0])
    turn = Rotation.from_quat(CAMERA_POSE[3:]).inv() * Rotation.from_matrix(optical)
    assert turn.magnitude() < 1e-3


def test_the_frustum_of_a_camera_holds_what_it_sees(simulator):
    rotation = Rotation.from_quat(CAMERA_POSE[3:])
    position = np.array(CAMERA_POSE[:3])
    matrix = simulator.camera_matrix(256)
    view = CameraView(position, rotation, matrix, 256, 256)
    ends = camera_shape(view).ends
    assert ends.shape == (8, 2, 3)
    corners = ends[:4, 1]
    pixels = rotation.inv().apply(corners - position) @ matrix.T
    np.testing.assert_allclose(pixels[:, 2], FRUSTUM_DEPTH)
    seen = pixels[:, :2] / pixels[:, 2:]
    np.testing.assert_allclose(seen, [[0, 0], [256, 0], [256, 256], [0, 256]], atol=1e-9)
    # The axis of the camera meets the table amid the workspace.
    axis = rotation.apply([0.0, 0.0, 1.0])
    meets = position - axis * position[2] / axis[2]
    assert 0.3 < meets[0] < 0.7 and -0.25 < meets[1] < 0.25


def test_the_difference_image_marks_the_patches_that_differ():
    camera, goal = np.full((120, 120, 3), 90, np.uint8), np.full((64, 64, 3), 200, np.uint8)
    distances = np.zeros((4, 4))
    distances[1, 2] = 0.5
    shown = difference_image(camera, goal, distances, 0.5)
    assert shown.shape == (PANEL, 3 * PANEL, 3) and shown.dtype == np.uint8
    patch = PANEL // 4
    third = shown[:, 2 * PANEL :].astype(int)
    marked = np.abs(third - 90).max(axis=2) > 20
    centre = marked[patch + 4 : 2 * patch - 4, 2 * patch + 4 : 3 * patch - 4]
    assert centre.all()
    assert not marked[:patch].any() and not marked[: 3 * patch, : 2 * patch].any()
    assert (shown[: PANEL // 2, :PANEL] == 90).all()
    assert (shown[: PANEL // 2, PANEL : 2 * PANEL] == 200).all()


def test_a_goal_that_is_reached_from_the_start_is_shown_without_marks():
    image = np.full((32, 32, 3), 90, np.uint8)
    shown = difference_image(image, image, np.zeros((4, 4)), 0.0)
    assert (shown[: PANEL // 2, 2 * PANEL :] == 90).all()


def test_the_distance_of_a_patch_is_the_mean_over_its_channels():
    latent, goal = np.zeros((6, 8), np.float32), np.zeros((6, 8), np.float32)
    goal[4, :4] = -2.0
    distances = patch_distances(latent, goal, 2)
    assert distances.shape == (2, 3)
    assert distances[1, 1] == 1.0 and distances.sum() == 1.0


def test_the_landscape_is_drawn_with_both_marks():
    grid = np.linspace(-1, 1, 9)
    xy = (grid[:, None] - 0.5) ** 2 + grid**2
    image = landscape_image(xy, xy + 1.0, 0.075, np.array([0.04, 0.0, -0.03]))
    assert image.shape == (360, 800, 3) and image.dtype == np.uint8
    red = (image[..., 0] > 200) & (image[..., 1] < 60) & (image[..., 2] < 60)
    # A dot in each slice, and one in the legend.
    assert red[:, :400].any() and red[:, 400:].any()
    # And no figure of pyplot stays behind.
    import matplotlib.pyplot

    assert not matplotlib.pyplot.get_fignums()
