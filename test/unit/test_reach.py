# SPDX-License-Identifier: Apache-2.0
"""The reach task itself, apart from how well a model does it."""

import numpy as np
import pytest
from small_model import small_world_model

from vjepa2_ros.evaluation import report
from vjepa2_ros.evaluation.reach import FARTHEST, NEAREST, ReachEpisode, run_episode
from vjepa2_ros.planning.cem import CEMConfig, CrossEntropyMethod
from vjepa2_ros.planning.receding_horizon import RecedingHorizon, RecedingHorizonSettings
from vjepa2_ros.robot.safety import MotionLimits
from vjepa2_ros.simulation.simulator import Simulator


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
    assert result.refusals
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
    report.write([result], figures, tmp_path, tmp_path / "deep" / "figures.json")
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
    assert len(result.refusals) == 2
    assert abs(result.distances[-1] - result.distances[0]) < 1e-3
