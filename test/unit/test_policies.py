# SPDX-License-Identifier: Apache-2.0
"""Baselines of the planner: what each decides, what it is fitted to, and which fits are refused."""

import argparse
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_model import small_world_model

from vjepa2_ros.cli import baselines as cli
from vjepa2_ros.evaluation.simulated_stack import encode_as_sent
from vjepa2_ros.evaluation.trial import play
from vjepa2_ros.execution.goal_status import GoalState
from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.policies import POLICIES, make_policy
from vjepa2_ros.policies.baselines import Baselines, BaselinesError, load_baselines, save_baselines
from vjepa2_ros.policies.direct import go_to
from vjepa2_ros.policies.linear import LinearWorldModel
from vjepa2_ros.settings.files import resolve
from vjepa2_ros.settings.planning import PLANNED, ActionSettings, GripperPolicy
from vjepa2_ros.settings.stack import StackSettings
from vjepa2_ros.simulation.simulator import Simulator
from vjepa2_ros.tasks import load_task
from vjepa2_ros.tasks.task import Episode, SubGoal, TaskOptions, draw_episode
from vjepa2_ros.training import baselines as fitting
from vjepa2_ros.training.baselines import Training, fit_baselines, linear_map
from vjepa2_ros.training.cloning import draw_steps, train_cloner
from vjepa2_ros.training.dataset import RecordingError
from vjepa2_ros.training.loop import LoopConfig
from vjepa2_ros.world_model.checkpoint import save_world_model
from vjepa2_ros.world_model.encoder import normalise

SETTINGS = StackSettings()
STATE = torch.tensor([0.5, 0.0, 0.2, math.pi, 0.0, 0.0, 0.0])
EPISODES, LENGTH = 6, 5


@pytest.fixture(scope="module")
def model():
    return small_world_model()


@pytest.fixture
def training(tmp_path):
    """What a training leaves: every second episode is random motion, the last is held out."""
    random, folder = np.random.default_rng(0), tmp_path / "training"
    (folder / "data").mkdir(parents=True)
    frames = random.integers(0, 256, (EPISODES, LENGTH, 64, 64, 3), np.uint8)
    np.save(folder / "data" / "frames.npy", frames)
    np.save(folder / "data" / "states.npy", recorded_states())
    (folder / "data" / "dataset.json").write_text(json.dumps({"play": 0.5}))
    recipe = {"held_out": 1, "predictor_loop": {"iterations": 2}, "max_translation": 0.075}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return folder


def recorded_states():
    random = np.random.default_rng(1)
    states = np.tile(STATE.numpy(), (EPISODES, LENGTH, 1))
    states[..., :3] += np.cumsum(random.uniform(-0.08, 0.08, (EPISODES, LENGTH, 3)), axis=1)
    states[..., 6] = random.uniform(0, 1, (EPISODES, LENGTH))
    return states.astype(np.float32)


@pytest.fixture(scope="module")
def fitted(model):
    torch.manual_seed(0)
    return Baselines(model.predictor.config)


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


def decisions(policy, trial, goals, states, cell=None):
    loop = policy.loop(trial, goals, cell)
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


def test_the_linear_map_is_exact_on_latents_that_are_linear():
    states = recorded_states()
    true = torch.randn(4, 16 * 48)
    moved = torch.from_numpy(states[..., [0, 1, 2, 6]]) - torch.from_numpy(
        states[:, :1, [0, 1, 2, 6]]
    )
    latents = torch.randn(EPISODES, 1, 16 * 48) + moved @ true
    latents = latents.unflatten(2, (16, 48)).numpy()
    latents[1::2] = 0.0  # of episodes that are not used
    found = linear_map(latents, states, np.arange(0, EPISODES, 2))
    torch.testing.assert_close(found, true, rtol=1e-3, atol=1e-3)


def test_the_linear_stand_in_composes_the_actions_of_a_horizon(model, fitted):
    stand_in = LinearWorldModel(model, fitted.linear)
    latent, actions = torch.randn(16, 48), torch.zeros(2, 2, 7)
    actions[0, :, 0], actions[1, :, 6] = 0.05, 0.75
    imagined = stand_in.rollout(latent, STATE, actions)
    for sample, changes in enumerate(
        ([[0.05, 0, 0, 0], [0.05, 0, 0, 0]], [[0, 0, 0, 0.75], [0, 0, 0, 0.25]])
    ):
        wanted = latent
        for change in torch.tensor(changes):
            wanted = normalise(wanted + fitted.linear(change).view(16, 48))
        torch.testing.assert_close(imagined[sample], wanted)


def test_the_linear_policy_plans_the_action_that_leads_to_the_goal(model, fitted, tmp_path):
    with torch.no_grad():
        fitted.linear.weight.normal_(generator=torch.Generator().manual_seed(0))
    save_baselines(fitted, model, tmp_path / "baselines.safetensors")
    policy = make_policy("linear", SETTINGS, model, tmp_path / "baselines.safetensors")
    latent, way = normalise(torch.randn(16, 48)), torch.tensor([0.03, -0.05, 0.02, 0.0])
    goal = normalise(latent + fitted.linear(way).view(16, 48)).detach()
    step = policy.loop(episode(subgoal([0.5, 0.0, 0.2])), goal[None], None).step(latent, STATE)
    torch.testing.assert_close(step.action[:3], way[:3], rtol=0.0, atol=0.005)
    assert step.predicted_energy < 0.2 * step.energy


def test_the_read_out_goes_to_the_pose_that_the_goal_shows(model, fitted, tmp_path):
    goal = torch.ones(16, 48)
    with torch.no_grad():
        fitted.readout.weight.zero_()
        fitted.readout.weight[:, 0] = torch.tensor([0.01, 0.0, -0.1, 1.0]) / goal[0, 0]
        fitted.readout.bias.copy_(torch.tensor([0.5, 0.0, 0.2, 0.0]))
    save_baselines(fitted, model, tmp_path / "baselines.safetensors")
    policy = make_policy("readout", PLANNED_GRIPPER, model, tmp_path / "baselines.safetensors")
    there = STATE + torch.tensor([0.01, 0.0, -0.1, 0.0, 0.0, 0.0, 0.0])
    trial = episode(subgoal([0.0, 0.0, 0.0], 0.0, PLANNED))
    first, second = decisions(policy, trial, goal[None], [STATE, there])
    torch.testing.assert_close(first.action[[0, 1, 2, 6]], torch.tensor([0.01, 0.0, -0.075, 0.0]))
    torch.testing.assert_close(second.action[[0, 1, 2, 6]], torch.tensor([0.0, 0.0, 0.0, 0.75]))


def test_cloning_is_trained_on_recorded_steps_towards_later_frames_of_their_episodes():
    states = recorded_states()
    # Each latent says its episode and frame.
    number, frame = np.mgrid[:EPISODES, :LENGTH]
    latents = np.stack([number, frame], axis=-1)[:, :, None].astype(np.float32)
    bounds = torch.tensor([0.075, 0.075, 0.075, 1.0])
    steps = draw_steps(latents, states, bounds, 200, np.random.default_rng(0))
    here, goals = steps.latents[:, 0].long(), steps.goals[:, 0].long()
    assert torch.equal(here[:, 0], goals[:, 0])
    assert set((goals - here)[:, 1].tolist()) == {1, 2, 3, 4}
    recorded = torch.from_numpy(states)[here[:, 0], here[:, 1]]
    after = torch.from_numpy(states)[here[:, 0], here[:, 1] + 1]
    assert torch.equal(steps.states, recorded)
    wanted = (after - recorded)[:, [0, 1, 2, 6]].clamp(-bounds, bounds)
    torch.testing.assert_close(steps.actions, wanted)
    assert (steps.actions.abs() <= bounds).all()


def test_the_loss_of_the_cloning_falls(model, tmp_path):
    torch.manual_seed(0)
    cloner = Baselines(model.predictor.config).cloner
    states = recorded_states()
    states[..., :3] = 0.05 * np.arange(LENGTH)[:, None]
    latents = np.random.default_rng(0).normal(size=(EPISODES, LENGTH, 16, 48)).astype(np.float32)
    bounds = torch.tensor([0.075, 0.075, 0.075, 1.0])
    loop = LoopConfig(20, learning_rate=3e-3, warmup=2)
    train_cloner(cloner, latents, states, bounds, 8, loop, tmp_path)
    lines = (tmp_path / "cloning.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:3])


def test_all_baselines_are_fitted_and_written_to_one_small_file(model, training, tmp_path):
    path = tmp_path / "baselines.safetensors"
    figures = fit_baselines(model, training, path)
    assert set(figures) == {"linear_relative_to_copy", "readout_hand_m", "cloning_loss"}
    assert path.stat().st_size < 10e6
    assert [file.name for file in tmp_path.glob("baselines*")] == ["baselines.safetensors"]
    trial = episode(subgoal([0.6, 0.0, 0.1]))
    cell = Simulator()
    for name in POLICIES:
        policy = make_policy(name, SETTINGS, model, path)
        for step in decisions(policy, trial, torch.randn(1, 16, 48), [STATE], cell):
            assert step.action.isfinite().all()


def test_the_read_out_is_fitted_to_a_part_of_a_large_recording(
    model, training, tmp_path, monkeypatch
):
    monkeypatch.setattr(fitting, "READOUT_EPISODES", 2)
    figures = fit_baselines(model, training, tmp_path / "baselines.safetensors")
    assert math.isfinite(figures["readout_hand_m"])


def test_a_second_call_trains_nothing_again(model, training, tmp_path):
    fit_baselines(model, training, tmp_path / "first", iterations=2)
    (checkpoint,) = training.rglob("cloning.pt")
    written = checkpoint.stat().st_mtime_ns
    fit_baselines(model, training, tmp_path / "second", iterations=2)
    assert checkpoint.stat().st_mtime_ns == written
    first, second = (load_file(tmp_path / name) for name in ("first", "second"))
    for name, weight in first.items():
        torch.testing.assert_close(second[name], weight, rtol=0.0, atol=0.0)


def test_baselines_of_another_model_are_refused(model, fitted, tmp_path):
    path = tmp_path / "baselines.safetensors"
    save_baselines(fitted, small_world_model(seed=1), path)
    with pytest.raises(BaselinesError, match="fitted to the model .*vjepa2-ros baselines"):
        load_baselines(path, model)


def test_a_file_that_is_none_of_baselines_is_refused(model, fitted, tmp_path):
    path = tmp_path / "baselines.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(BaselinesError, match="cannot be read"):
        load_baselines(path, model)
    save_file({"weight": torch.zeros(1)}, path)
    with pytest.raises(BaselinesError, match="no file of fitted policies"):
        load_baselines(path, model)
    del fitted.cloner.blocks[1:]
    save_baselines(fitted, model, path)
    with pytest.raises(BaselinesError, match="do not fit"):
        load_baselines(path, model)


def test_only_fitted_policies_need_the_file(model, tmp_path):
    for name in ("planner", "none", "random", "oracle"):
        make_policy(name, SETTINGS, model, tmp_path / "missing")
    for name in ("readout", "linear", "cloning"):
        with pytest.raises(BaselinesError, match="no fitted policies at .*vjepa2-ros baselines"):
            make_policy(name, SETTINGS, model, tmp_path / "missing")


def test_the_recording_of_a_fine_tuning_may_be_elsewhere(training, tmp_path):
    recipe = {"recording": str(training / "data"), "loop": {"iterations": 7}}
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "recipe.json").write_text(json.dumps(recipe | {"max_translation": 0.1}))
    opened = Training.open(tmp_path / "tuned")
    assert (opened.trained, opened.iterations, opened.max_translation) == (EPISODES - 1, 7, 0.1)
    assert opened.plays.tolist() == [True, False] * 3


def test_a_recording_that_no_training_made_is_refused(model, training, tmp_path):
    (training / "recipe.json").unlink()
    with pytest.raises(RecordingError, match="no training with"):
        fit_baselines(model, training, tmp_path / "baselines.safetensors")


def test_a_recording_without_random_motion_is_refused(model, training, tmp_path):
    (training / "data" / "dataset.json").write_text(json.dumps({"play": 1.0}))
    with pytest.raises(RecordingError, match="no random motion"):
        fit_baselines(model, training, tmp_path / "baselines.safetensors")


def run_command(*words):
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli.run(parser.parse_args([str(word) for word in words]))


def test_the_command_writes_the_file_beside_the_model(model, training, tmp_path, capsys):
    save_world_model(model, tmp_path / "model", {})
    words = ("--checkpoint", tmp_path / "model", "--folder", training, "--device", "cpu")
    assert run_command(*words) == 0
    assert "readout_hand_m" in capsys.readouterr().out
    load_baselines(tmp_path / "model" / "baselines.safetensors", model)


def test_the_command_refuses_what_it_cannot_use(model, training, tmp_path, capsys):
    save_world_model(model, tmp_path / "model", {})
    empty = tmp_path / "empty"
    empty.mkdir()
    assert run_command("--checkpoint", tmp_path / "model", "--folder", empty) == 2
    assert "no training" in capsys.readouterr().err
    assert run_command("--checkpoint", empty, "--folder", training) == 2
    words = ("--checkpoint", tmp_path / "model", "--folder", training)
    assert run_command(*words, "--output", empty / "not" / "there" / "file") == 1


@pytest.mark.parametrize("name", ["reach", "grasp"])
def test_the_oracle_does_the_tasks_in_the_simulated_cell(model, name):
    task, simulator = load_task(name), Simulator()
    trial = draw_episode(task, simulator, 3, TaskOptions(task.objects[1] if task.objects else None))
    goals = torch.stack([encode_as_sent(model, g.image, SETTINGS.encoder) for g in trial.subgoals])
    loop = make_policy("oracle", SETTINGS, model).loop(trial, goals, None)
    result = play(simulator, task, trial, loop, SETTINGS)
    assert result.success
    assert result.end == GoalState.STEP_LIMIT


def test_policies_that_predict_nothing_move_where_a_planner_would_hold_still(model):
    """Settings such as those of the preset `contact`."""
    loop = replace(SETTINGS.planner.loop, hold_unless_better=True)
    settings = replace(SETTINGS, planner=replace(SETTINGS.planner, loop=loop))
    simulator = Simulator()
    episode = draw_episode(load_task("reach"), simulator, 3, TaskOptions())
    goal = model.encode(episode.subgoals[0].image)[None]
    running = make_policy("random", settings, model).loop(episode, goal, simulator)
    step = running.step(model.encode(simulator.render()), STATE)
    assert step.action.abs().max() > 0 and math.isnan(step.predicted_energy)


def test_sub_goals_that_end_by_their_energy_need_no_other_policies(model):
    """Those that do not predict have no patience, which that switch asks for."""
    settings = resolve(options={"planner_node": {"switch": "energy"}}).settings
    assert make_policy("planner", settings, model).settings.loop.switch == "energy"
    assert make_policy("none", settings, model).settings.loop.switch == "steps"
