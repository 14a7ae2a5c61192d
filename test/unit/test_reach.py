# SPDX-License-Identifier: Apache-2.0
"""The reach task itself, apart from how well a model does it."""

import json

import numpy as np
import pytest
from small_model import small_world_model

from vjepa2_ros.evaluation import report
from vjepa2_ros.evaluation.reach import (
    FARTHEST,
    NEAREST,
    ReachEpisode,
    run_episode,
    scene_seeds,
)
from vjepa2_ros.planning.cem import CEMConfig, CrossEntropyMethod
from vjepa2_ros.planning.receding_horizon import RecedingHorizon, RecedingHorizonSettings
from vjepa2_ros.robot.safety import MotionLimits
from vjepa2_ros.simulation.simulator import TRAINING_SCENES, Simulator
from vjepa2_ros.training.dataset import scene_seed


@pytest.fixture(scope="module")
def simulator():
    return Simulator()


def test_episodes_start_15_to_40_cm_from_the_goal_and_repeat_by_seed(simulator):
    for seed in range(10):
        episode = ReachEpisode.sample(seed, simulator)
        distance = np.linalg.norm(episode.goal_state[:3] - episode.start_state[:3])
        assert NEAREST - 1e-3 <= distance <= FARTHEST + 1e-3
        np.testing.assert_allclose(simulator.state(), episode.start_state)
    again = ReachEpisode.sample(9)
    np.testing.assert_array_equal(again.goal_state, episode.goal_state)
    np.testing.assert_array_equal(again.goal_image, episode.goal_image)


def test_each_seed_has_ten_thousand_scenes_of_its_own_and_none_of_training():
    assert scene_seeds(0, 3) == [0, 1, 2]
    assert scene_seeds(3, 50)[32] == 30_032
    assert scene_seeds(99, 10_000)[-1] == TRAINING_SCENES.start - 1
    assert scene_seeds(100, 1) == [2_000_000]
    seen = set()
    for seed in (0, 1, 98, 99, 100, 101, 199, 200, 2**31 - 1):
        scenes = set(scene_seeds(seed, 10_000))
        assert len(scenes) == 10_000 and not scenes & seen and not scenes & set(TRAINING_SCENES)
        seen |= scenes


def test_training_keeps_to_its_own_scenes_whatever_its_seed():
    assert scene_seed(0, 0) == 1_000_000 and scene_seed(0, 3999) == 1_003_999
    for seed in (0, 1, 99, 100, 2**31 - 1):
        assert scene_seed(seed, 9_999) in TRAINING_SCENES


@pytest.mark.parametrize(("seed", "episodes"), [(-1, 1), (1, 0), (1, 10_001)])
def test_a_negative_seed_and_more_episodes_than_scenes_are_refused(seed, episodes):
    with pytest.raises(ValueError, match="seed"):
        scene_seeds(seed, episodes)


def loop_for(model, image, steps):
    settings = RecedingHorizonSettings([steps])
    planner = CrossEntropyMethod(CEMConfig(samples=8, iterations=1, top_k=2))
    return RecedingHorizon(planner, model, model.encode(image)[None], settings)


def test_an_episode_records_every_step_and_obeys_the_limits(simulator, tmp_path):
    model = small_world_model()
    episode = ReachEpisode.sample(0, simulator)
    start = episode.start_state[:3]
    limits = MotionLimits(workspace_lower=tuple(start - 0.02), workspace_upper=tuple(start + 0.02))
    result = run_episode(simulator, episode, loop_for(model, episode.goal_image, 3), limits)
    assert result.steps == 3 and len(result.distances) == 4 and len(result.images) == 4
    assert np.abs(simulator.pose()[0] - start).max() < 0.021
    assert result.clamped and not result.refused
    figures = report.summary([result], 7, "small", {"samples": 8})
    assert {
        "task",
        "object",
        "episodes",
        "seed",
        "success_rate",
        "final_distance_m",
        "steps",
        "seconds_per_step",
        "checkpoint",
        "planner",
    } <= set(figures)
    result.predicted_energies[-1] = float("nan")
    report.write([result], figures, tmp_path, tmp_path / "deep" / "figures.json")
    written = json.loads((tmp_path / "reach.json").read_text(), parse_constant=pytest.fail)
    assert written["clamped"] == len(result.clamped) and written["refused"] == 0
    (curves,) = written["curves"]
    assert curves["clamped"] == result.clamped and curves["predicted_energy"][-1] is None
    assert {path.name for path in tmp_path.iterdir()} >= {
        "reach.json",
        "curves.png",
        "goal_over_end.png",
    }


def test_a_command_beyond_the_limits_leaves_the_arm_where_it_is(simulator):
    model = small_world_model()
    episode = ReachEpisode.sample(1, simulator)
    result = run_episode(
        simulator, episode, loop_for(model, episode.goal_image, 2), MotionLimits(max_step=1e-6)
    )
    assert len(result.refused) == 2 and result.clamped == []
    figures = report.summary([result], 7, "small", {})
    assert (figures["refused"], figures["clamped"]) == (2, 0)
    assert abs(result.distances[-1] - result.distances[0]) < 1e-3
