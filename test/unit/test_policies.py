# SPDX-License-Identifier: Apache-2.0
"""Rivals of the planner: what each decides, what it is fitted to, and which fits are refused."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_model import small_world_model

from vjepa2_ros.evaluation.simulated_stack import encode_as_sent
from vjepa2_ros.evaluation.trial import play
from vjepa2_ros.execution.goal_status import GoalState
from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.policies import make_policy
from vjepa2_ros.policies.direct import go_to
from vjepa2_ros.settings.planning import PLANNED, ActionSettings, GripperPolicy
from vjepa2_ros.settings.stack import StackSettings
from vjepa2_ros.simulation.simulator import Simulator
from vjepa2_ros.tasks import load_task
from vjepa2_ros.tasks.task import Episode, SubGoal, TaskOptions, draw_episode

SETTINGS = StackSettings()
STATE = torch.tensor([0.5, 0.0, 0.2, math.pi, 0.0, 0.0, 0.0])


@pytest.fixture(scope="module")
def model():
    return small_world_model()


def with_planner(**changes):
    return replace(SETTINGS, planner=replace(SETTINGS.planner, **changes))


PLANNED_GRIPPER = with_planner(
    action=ActionSettings(gripper=GripperPolicy(mode="enumerated")),
)


def episode(*subgoals, seed=7):
    return Episode(seed, None, None, subgoals, subgoals[-1].hand)


def subgoal(hand, closedness=0.0, gripper="hold", steps=3):
    image = np.zeros((64, 64, 3), np.uint8)
    return SubGoal("picture", image, np.asarray(hand, float), closedness, gripper, steps)


def decisions(policy, trial, goals, states):
    loop = policy.loop(trial, goals)
    latent = torch.zeros(goals.shape[1:])
    return [loop.step(latent, state) for state in states]


def test_no_motion_keeps_hand_and_gripper_whatever_the_goal_says(model):
    policy = make_policy("none", SETTINGS, model)
    trial = episode(subgoal([0.6, 0.1, 0.1], 1.0, "close"))
    for step in decisions(policy, trial, torch.randn(1, 16, 48), [STATE] * 3):
        assert torch.equal(step.target_state, STATE)
    assert step.finished == "step_limit"


def test_random_actions_repeat_with_the_episode_and_differ_between_episodes(model):
    policy = make_policy("random", SETTINGS, model)
    goals = torch.randn(1, 16, 48)

    def actions(seed):
        trial = episode(subgoal([0.6, 0.1, 0.1]), seed=seed)
        return torch.stack([s.action for s in decisions(policy, trial, goals, [STATE] * 3)])

    first = actions(seed=1)
    assert torch.equal(first, actions(seed=1))
    assert not torch.equal(first, actions(seed=2))
    assert not torch.equal(first[0], first[1])
    assert first[:, :3].abs().max() <= SETTINGS.planner.action.max_translation


def test_what_does_not_predict_has_no_energy_and_never_ends_early(model):
    trial = episode(subgoal(STATE[:3], steps=4))
    for name in ("none", "random", "oracle"):
        policy = make_policy(name, SETTINGS, model)
        steps = decisions(policy, trial, torch.zeros(1, 16, 48), [STATE] * 4)
        assert all(math.isnan(step.predicted_energy) for step in steps)
        assert [step.finished for step in steps] == [None, None, None, "step_limit"]


def test_the_oracle_goes_to_the_hand_of_each_picture_within_the_bound_of_an_axis(model):
    policy = make_policy("oracle", SETTINGS, model)
    there, back = subgoal([0.6, 0.01, 0.2], steps=1), subgoal([0.5, -0.2, 0.2], steps=1)
    goals = torch.randn(2, 16, 48)
    first, second = decisions(policy, episode(there, back), goals, [STATE, STATE])
    bound = SETTINGS.planner.action.max_translation
    torch.testing.assert_close(first.action[:3], torch.tensor([bound, 0.01, 0.0]))
    torch.testing.assert_close(second.action[:3], torch.tensor([0.0, -bound, 0.0]))


def test_the_oracle_closes_a_planned_gripper_only_at_the_hand_of_the_picture(model):
    policy = make_policy("oracle", PLANNED_GRIPPER, model)
    trial = episode(subgoal([0.6, 0.0, 0.2], 1.0, PLANNED))
    far, near = STATE, STATE.clone()
    near[0] = 0.595
    on_the_way, arrived = decisions(policy, trial, torch.randn(1, 16, 48), [far, near])
    assert on_the_way.target_state[6] == 0.0
    assert arrived.target_state[6] == 0.75


def test_the_way_to_a_pose_is_spread_over_a_horizon():
    space = ActionSpace(horizon=3, max_translation=0.05, fixed_axes={"gripper": 0.0})
    actions = go_to(space, STATE, torch.tensor([0.57, 0.0, -0.8]), 0.0)
    torch.testing.assert_close(actions[:, 0], torch.tensor([0.05, 0.02, 0.0]))
    torch.testing.assert_close(actions[:, 2], torch.tensor([-0.05, -0.05, -0.05]))


def test_a_policy_that_does_not_exist_is_refused(model):
    with pytest.raises(ValueError, match="unknown policy 'luck'"):
        make_policy("luck", SETTINGS, model)


@pytest.mark.parametrize("name", ["reach", "grasp"])
def test_the_oracle_does_the_tasks_in_the_simulated_cell(model, name):
    task, simulator = load_task(name), Simulator()
    trial = draw_episode(task, simulator, 3, TaskOptions(task.objects[1] if task.objects else None))
    goals = torch.stack([encode_as_sent(model, g.image, SETTINGS.encoder) for g in trial.subgoals])
    loop = make_policy("oracle", SETTINGS, model).loop(trial, goals)
    result = play(simulator, task, trial, loop, SETTINGS)
    assert result.success
    assert result.end == GoalState.STEP_LIMIT
