# SPDX-License-Identifier: Apache-2.0
"""The reach task itself, apart from how well a model does it."""

import json
from dataclasses import replace

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
from vjepa2_ros.evaluation.simulated_stack import SimulatedStack
from vjepa2_ros.execution.goal_status import GoalState
from vjepa2_ros.planning.planners import make_planner
from vjepa2_ros.planning.receding_horizon import make_loop
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.settings.cell import MotionCell, Workspace
from vjepa2_ros.settings.controller import ControllerNodeSettings, MotionLimits
from vjepa2_ros.settings.planning import (
    ActionSettings,
    CEMSettings,
    ExecutionSettings,
    LoopSettings,
    PlannerNodeSettings,
    SearchSettings,
)
from vjepa2_ros.settings.stack import StackSettings
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


def settings_for(steps, box=None, max_translation=0.075, **limits):
    """Settings of a stack with a cheap search."""
    cell = MotionCell(workspace=box or Workspace())
    search = SearchSettings(planner="cem", cem=CEMSettings(samples=8, iterations=1, top_k=2))
    planner = PlannerNodeSettings(
        search=search,
        action=ActionSettings(max_translation=max_translation),
        loop=LoopSettings(steps_per_subgoal=steps, patience=0),
        execution=ExecutionSettings(cell=cell),
    )
    controller = ControllerNodeSettings(limits=MotionLimits(cell=cell, **limits))
    return StackSettings(planner=planner, controller=controller)


def loop_for(model, image, settings):
    planner = make_planner(settings.planner.search)
    return make_loop(settings.planner, planner, model, model.encode(image)[None])


def play(simulator, episode, settings, loop=None):
    model = small_world_model()
    loop = loop or loop_for(model, episode.goal_image, settings)
    return run_episode(simulator, episode, loop, settings)


def test_an_episode_records_every_step_and_obeys_the_limits(simulator, tmp_path):
    episode = ReachEpisode.sample(0, simulator)
    start = episode.start_state[:3]
    box = Workspace(tuple((start - 0.02).tolist()), tuple((start + 0.02).tolist()))
    settings = settings_for(3)
    loop = loop_for(small_world_model(), episode.goal_image, settings)
    limited = replace(settings, controller=settings_for(3, box).controller)
    result = play(simulator, episode, limited, loop)
    assert result.steps == 3 and len(result.distances) == 4 and len(result.images) == 4
    assert (result.end, result.reason) == (GoalState.STEP_LIMIT, Reason.ALL_STEPS_MADE)
    assert np.abs(simulator.pose()[0] - start).max() < 0.025
    assert result.clamped and not result.refused
    figures = report.summary([result], 7, settings)
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


def test_each_step_is_planned_from_where_the_one_before_has_ended(simulator):
    episode = ReachEpisode.sample(2, simulator)
    settings = settings_for(3)
    loop = loop_for(small_world_model(), episode.goal_image, settings)
    simulator.reset(episode.seed)
    steps, status = SimulatedStack(simulator, settings).execute(loop)
    assert status.state == GoalState.STEP_LIMIT
    for before, after in zip(steps, steps[1:], strict=False):
        target = before.verdict.position
        assert np.linalg.norm(after.position - target) < 0.01


def test_a_step_beyond_the_limit_latches_a_fault_and_ends_the_goal_as_in_the_nodes(simulator):
    episode = ReachEpisode.sample(1, simulator)
    loop = loop_for(small_world_model(), episode.goal_image, settings_for(2))
    limited = settings_for(2, max_translation=0.001, max_step=0.002)
    result = play(simulator, episode, limited, loop)
    assert (result.end, result.reason) == (GoalState.FAILED, Reason.CONTROLLER_FAULT)
    assert len(result.refused) == 1 and result.clamped == []
    figures = report.summary([result], 7, limited)
    assert (figures["refused"], figures["clamped"], figures["end"]) == (1, 0, ["FAILED"])
    assert abs(result.distances[-1] - result.distances[0]) < 1e-3


def test_an_error_of_the_planner_ends_the_episode_as_it_does_in_the_node(simulator):
    episode = ReachEpisode.sample(1, simulator)
    settings = settings_for(2)
    loop = loop_for(small_world_model(), episode.goal_image, settings)
    loop.goals = loop.goals * float("nan")
    result = play(simulator, episode, settings, loop)
    assert (result.end, result.reason) == (GoalState.FAILED, Reason.PLANNING_FAILED)
    assert result.steps == 0 and len(result.distances) == 2


def test_with_overlap_steps_follow_each_other_before_the_robot_stands(simulator):
    episode = ReachEpisode.sample(2, simulator)

    def seconds(overlap):
        settings = settings_for(6)
        execution = replace(settings.planner.execution, overlap=overlap)
        settings = replace(settings, planner=replace(settings.planner, execution=execution))
        result = play(simulator, episode, settings)
        assert result.steps == 6 and result.end == GoalState.STEP_LIMIT
        return simulator.time

    assert seconds(True) < 0.7 * seconds(False)
