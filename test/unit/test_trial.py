# SPDX-License-Identifier: Apache-2.0
"""One episode played by the loop of the nodes, apart from how well a model does it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_model import small_world_model

from vjepa2_ros.evaluation.simulated_stack import SimulatedStack
from vjepa2_ros.evaluation.trial import PlanningFailedError, play
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
from vjepa2_ros.simulation.simulator import Simulator
from vjepa2_ros.tasks import load_task
from vjepa2_ros.tasks.outcome import Cause
from vjepa2_ros.tasks.task import TaskOptions, draw_episode

REACH = load_task("reach")


@pytest.fixture(scope="module")
def simulator():
    return Simulator()


def settings_for(box=None, max_translation=0.075, **limits):
    """Settings of a stack with a cheap search."""
    cell = MotionCell(workspace=box or Workspace())
    search = SearchSettings(planner="cem", cem=CEMSettings(samples=8, iterations=1, top_k=2))
    planner = PlannerNodeSettings(
        search=search,
        action=ActionSettings(max_translation=max_translation),
        loop=LoopSettings(patience=0),
        execution=ExecutionSettings(cell=cell),
    )
    controller = ControllerNodeSettings(limits=MotionLimits(cell=cell, **limits))
    return StackSettings(planner=planner, controller=controller)


def episode_of(seed, simulator, steps):
    return draw_episode(REACH, simulator, seed, TaskOptions()).with_steps(steps)


def loop_for(episode, settings):
    model, planner = small_world_model(), make_planner(settings.planner.search)
    (picture,) = episode.subgoals
    goal = model.encode(picture.image)[None]
    return make_loop(settings.planner, planner, model, goal, [picture.steps])


def trial_of(simulator, episode, settings, loop=None):
    return play(simulator, REACH, episode, loop or loop_for(episode, settings), settings)


def test_a_trial_records_every_step_and_obeys_the_limits(simulator):
    episode = episode_of(0, simulator, 3)
    start = simulator.pose()[0]
    box = Workspace(tuple((start - 0.02).tolist()), tuple((start + 0.02).tolist()))
    settings = settings_for()
    limited = replace(settings, controller=settings_for(box).controller)
    trial = trial_of(simulator, episode, limited, loop_for(episode, settings))
    assert trial.steps == 3 and trial.hands.shape == (4, 3) and len(trial.images) == 4
    assert trial.evaluations == [10, 10, 10] and trial.subgoals == [0, 0, 0]
    assert (trial.end, trial.reason) == (GoalState.STEP_LIMIT, Reason.ALL_STEPS_MADE)
    assert np.abs(trial.hands[-1] - start).max() < 0.025
    assert trial.clamped and not trial.refused
    assert (trial.success, trial.cause) == (False, Cause.OUT_OF_TIME)
    assert trial.distance == pytest.approx(np.linalg.norm(trial.hands[-1] - episode.target), 1e-3)


def test_each_step_is_planned_from_where_the_one_before_has_ended(simulator):
    settings = settings_for()
    episode = episode_of(2, simulator, 3)
    seen = []
    steps, status = SimulatedStack(simulator, settings).execute(
        loop_for(episode, settings), lambda: seen.append(simulator.time)
    )
    assert status.state == GoalState.STEP_LIMIT
    np.testing.assert_allclose(np.diff(seen), simulator.config.control_period, atol=1e-6)
    for before, after in zip(steps, steps[1:], strict=False):
        assert np.linalg.norm(after.position - before.verdict.position) < 0.01


def test_a_step_beyond_the_limit_latches_a_fault_and_ends_the_goal_as_in_the_nodes(simulator):
    episode = episode_of(1, simulator, 2)
    loop = loop_for(episode, settings_for())
    trial = trial_of(simulator, episode, settings_for(max_translation=0.001, max_step=0.002), loop)
    assert (trial.end, trial.reason) == (GoalState.FAILED, Reason.CONTROLLER_FAULT)
    assert len(trial.refused) == 1 and trial.clamped == [] and trial.cause is Cause.REFUSED
    assert np.linalg.norm(trial.hands[-1] - trial.hands[0]) < 1e-3


def test_an_error_of_the_planner_is_no_failure_of_the_task(simulator):
    settings = settings_for()
    episode = episode_of(1, simulator, 2)
    loop = loop_for(episode, settings)
    loop.goals = loop.goals * float("nan")
    with pytest.raises(PlanningFailedError, match="scene 1: planning failed: .* not finite"):
        trial_of(simulator, episode, settings, loop)


def test_with_overlap_steps_follow_each_other_before_the_robot_stands(simulator):
    episode = episode_of(2, simulator, 6)

    def seconds(overlap):
        settings = settings_for()
        execution = replace(settings.planner.execution, overlap=overlap)
        settings = replace(settings, planner=replace(settings.planner, execution=execution))
        trial = trial_of(simulator, episode, settings)
        assert trial.steps == 6 and trial.end == GoalState.STEP_LIMIT
        return simulator.time

    assert seconds(True) < 0.7 * seconds(False)


def test_a_trial_of_an_object_is_judged_a_second_after_its_end(simulator):
    task, settings = load_task("grasp"), settings_for()
    episode = draw_episode(task, simulator, 4, TaskOptions("box")).with_steps(1)
    model = small_world_model()
    loop = make_loop(
        settings.planner,
        make_planner(settings.planner.search),
        model,
        torch.stack([model.encode(goal.image) for goal in episode.subgoals]),
        [goal.steps for goal in episode.subgoals],
        [goal.gripper for goal in episode.subgoals],
    )
    trial = play(simulator, task, episode, loop, settings)
    assert trial.steps == 4 and not trial.success and trial.cause is not None
