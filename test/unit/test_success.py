# SPDX-License-Identifier: Apache-2.0
"""The success probe: its questions, its training, and what the loop makes of its answers."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_model import small_world_model
from tiny_training import command

from vjepa2_ros.cli import train as cli
from vjepa2_ros.evaluation.run import Evaluation, _fingerprint
from vjepa2_ros.planning.cem import CrossEntropyMethod
from vjepa2_ros.planning.receding_horizon import RecedingHorizon
from vjepa2_ros.policies.linear import LinearWorldModel
from vjepa2_ros.settings.files import resolve
from vjepa2_ros.settings.planning import ActionSettings, CEMSettings, GripperPolicy, LoopSettings
from vjepa2_ros.tasks.task import TaskOptions
from vjepa2_ros.training.dataset import Dataset, RecordingError
from vjepa2_ros.training.success_training import answers, figures
from vjepa2_ros.world_model.checkpoint import load_world_model, save_world_model
from vjepa2_ros.world_model.encoder import normalise
from vjepa2_ros.world_model.success import QUESTIONS, SuccessProbe
from vjepa2_ros.world_model.world_model import WorldModel

CONFIG = {"width": 48, "hidden": 32, "blocks": 1, "heads": 2}
STATE = torch.tensor([0.5, 0.0, 0.3, 3.1, 0.0, 0.1, 0.2])
CUP, BOX = (0.5, 0.1, 0.045), (0.4, -0.1, 0.025)


# What is true ---------------------------------------------------------------------------------


def episode(*moments):
    """A recording of one episode: hand, closedness, places of cup and box, what is held."""
    hands, closedness, objects, held = zip(*moments, strict=True)
    states = np.zeros((1, len(moments), 7), np.float32)
    states[0, :, :3], states[0, :, 6] = hands, closedness
    frames = np.zeros((1, len(moments), 8, 8, 3), np.uint8)
    things = np.array([objects], np.float32)
    return Dataset(frames, states, things, held=np.array([held], bool))


def true(dataset, frame, goal):
    return {q for q, a in zip(QUESTIONS, answers(dataset)[0, frame, goal], strict=True) if a}


FREE, IN_HAND = (False, False), (True, False)
LIFTED = (0.5, 0.1, 0.145)
GRASP = [
    ((0.5, 0.1, 0.16), 0.0, (CUP, BOX), FREE),  # 0 above
    ((0.5, 0.1, 0.06), 0.0, (CUP, BOX), FREE),  # 1 at the cup
    ((0.5, 0.1, 0.06), 0.6, (CUP, BOX), IN_HAND),  # 2 closed on it
    ((0.5, 0.1, 0.16), 0.6, (LIFTED, BOX), IN_HAND),  # 3 lifted
    ((0.5, 0.1, 0.161), 1.0, (CUP, BOX), FREE),  # 4 fallen
    ((0.505, 0.1, 0.165), 0.0, (CUP, BOX), FREE),  # 5 open again
]


def test_a_picture_is_reached_where_hand_gripper_and_objects_are_as_it_shows():
    recording = episode(*GRASP)
    assert "reached" in true(recording, 5, 0)
    assert "reached" not in true(recording, 1, 0), "the hand is elsewhere"
    assert "reached" not in true(recording, 1, 2), "the gripper is open"
    assert "reached" not in true(recording, 4, 3), "the cup is on the table"
    assert "reached" not in true(recording, 4, 0), "the gripper is closed on nothing"


def test_holding_is_what_the_hand_does_whatever_the_goal_shows():
    recording = episode(*GRASP)
    assert [("holding" in true(recording, frame, 0)) for frame in range(6)] == [
        False, False, True, True, False, False,
    ]  # fmt: skip


def test_placed_is_what_stands_where_the_goal_shows_it_released():
    recording = episode(*GRASP)
    assert "placed" in true(recording, 5, 0)
    assert "placed" not in true(recording, 2, 0), "it is held"
    assert "placed" not in true(recording, 5, 3), "the goal shows it in the hand"


def test_dropped_is_what_was_held_before_and_is_not_where_the_goal_shows_it():
    recording = episode(*GRASP)
    assert "dropped" in true(recording, 4, 3)
    assert "dropped" not in true(recording, 3, 0), "it is still held"
    assert "dropped" not in true(recording, 4, 0), "the goal shows it there"
    assert "dropped" not in true(recording, 1, 3), "it was not held yet"


def test_a_recording_without_the_truth_about_objects_cannot_be_labelled():
    recording = replace(episode(*GRASP), held=None)
    with pytest.raises(RecordingError, match="held.npy"):
        answers(recording)


def test_figures_of_a_calibrated_probe():
    random = np.random.default_rng(0)
    probability = random.uniform(size=20_000)
    truth = random.uniform(size=20_000) < probability
    found = figures(probability, truth)
    assert found["calibration_error"] < 0.02 and found["accuracy"] == pytest.approx(0.75, abs=0.01)
    sure = figures(np.where(truth, 0.99, 0.01) * 0.0 + 0.99, truth)
    assert sure["calibration_error"] == pytest.approx(0.99 - truth.mean(), abs=1e-6)
    assert (sure["recall"], sure["specificity"]) == (1.0, 0.0)


# In the loop ----------------------------------------------------------------------------------


class Compares(SuccessProbe):
    """Sees as reached what is nearer to the goal than a random latent."""

    def forward(self, latents, goals):
        near = 10.0 * (0.3 - (latents - goals).abs().mean((1, 2)))
        return near[:, None].expand(-1, len(QUESTIONS))


def latents(count):
    return normalise(torch.randn(count, 16, 48, generator=torch.Generator().manual_seed(3)))


@pytest.fixture(scope="module")
def model():
    plain = small_world_model()
    parts = {"success": Compares(CONFIG).eval()}
    return WorldModel(plain.encoder, plain.predictor, name="small", parts=parts)


def loop(model, goals, steps, gripper=(), **settings):
    planner = CrossEntropyMethod(CEMSettings(samples=8, iterations=1, top_k=2))
    action = ActionSettings(gripper=GripperPolicy("sampled"))
    settings = LoopSettings(**{"switch": "probe", **settings})
    return RecedingHorizon(planner, model, goals, action, settings, None, steps, gripper)


def test_what_is_seen_reached_is_left_for_the_next_picture_at_once(model):
    first, second, third = latents(3)
    running = loop(model, torch.stack([first, second, third]), [5, 5, 5])
    seen = [running.step(view, STATE) for view in (normalise(first + second), first, second, third)]
    assert [step.subgoal for step in seen] == [0, 1, 2, 2]
    assert [step.finished for step in seen] == [None, None, None, "reached"]
    assert (seen[-1].action == 0).all() and seen[-1].answers["reached"] > 0.9
    assert seen[-1].evaluations == 0, "there is nothing to plan"
    assert set(seen[0].answers) == set(QUESTIONS) and seen[0].answers["reached"] < 0.5


def test_what_is_never_seen_reached_ends_with_its_steps_however_little_improves(model):
    goals = latents(2)
    running = loop(model, goals, [2, 2], patience=1)
    steps = [running.step(latents(3)[2], STATE) for _ in range(4)]
    assert [step.subgoal for step in steps] == [0, 0, 1, 1]
    assert [step.finished for step in steps] == [None, None, None, "step_limit"]


@pytest.mark.parametrize("word", ["open", "close"])
def test_a_gripper_that_is_told_moves_before_its_picture_counts_as_reached(model, word):
    """Whatever is seen: the command to open or close was skipped."""
    goals = latents(1)
    running = loop(model, goals, [5], [word])
    state = STATE.clone()
    state[6] = told = 1.0 if word == "open" else 0.0
    step = running.step(goals[0], state, commanded_closedness=told)
    assert step.finished is None and float(step.target_state[6]) == 1.0 - told
    assert running.step(goals[0], STATE).finished == "reached"


def test_answers_that_are_no_numbers_end_the_goal():
    plain = small_world_model()
    probe = Compares(CONFIG)
    probe.forward = lambda latents, goals: torch.full((1, 4), float("nan"))
    model = WorldModel(plain.encoder, plain.predictor, parts={"success": probe.eval()})
    with pytest.raises(ValueError, match="answers no numbers"):
        loop(model, latents(1), [5]).step(latents(2)[1], STATE)


def test_the_threshold_decides(model):
    goals = latents(1)
    near = normalise(goals[0] + 0.12 * latents(2)[1])
    p = model.success(near, goals[0])["reached"]
    assert 0.6 < p < 0.95
    assert loop(model, goals, [5], switch_threshold=p - 0.01).step(near, STATE).finished
    assert not loop(model, goals, [5], switch_threshold=p + 0.01).step(near, STATE).finished


def test_energies_can_end_every_picture(model):
    goals = latents(2)
    running = loop(model, goals, [9, 9], switch="energy", patience=2)
    steps = [running.step(goals[0], STATE) for _ in range(2)]
    assert [step.answers for step in steps] == [{}, {}]
    assert running.subgoal == 1 and running.finished is None
    # Only the last one ends so where pictures follow by their steps.
    paper = loop(model, goals, [9, 9], switch="steps", patience=2)
    for _ in range(4):
        paper.step(goals[0], STATE)
    assert paper.subgoal == 0


def test_a_model_without_the_probe_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match="no part success: train one with .* --probe"):
        loop(small_world_model(), latents(1), [5])


# In the checkpoint, and by the command ----------------------------------------------------------


def test_the_probe_is_loaded_wherever_the_checkpoint_holds_it(tmp_path):
    plain = small_world_model()
    torch.manual_seed(1)
    probe = SuccessProbe(CONFIG).eval()
    model = WorldModel(plain.encoder, plain.predictor, parts={"success": probe})
    save_world_model(model, tmp_path, {})
    loaded = load_world_model(tmp_path)
    assert loaded.fingerprint == plain.fingerprint
    present, goal = latents(2)
    assert loaded.success(present, goal) == model.success(present, goal)


def test_a_probe_of_another_encoder_is_refused():
    plain = small_world_model()
    probe = SuccessProbe({**CONFIG, "width": 64})
    with pytest.raises(ValueError, match="latents of 64 channels, the encoder's have 48"):
        WorldModel(plain.encoder, plain.predictor, parts={"success": probe})


def test_a_stand_in_for_the_predictor_asks_the_same_probe(model):
    change = torch.nn.Linear(4, 16 * 48)
    present, goal = latents(2)
    assert LinearWorldModel(model, change).success(present, goal) == model.success(present, goal)


def test_an_evaluation_with_another_probe_is_another_one(model):
    settings = resolve(options={"planner_node": {"switch": "probe"}}).settings
    evaluation = Evaluation("reach", TaskOptions(), "planner", 1, 1, 0.0, settings)
    torch.manual_seed(1)
    first, second = (
        WorldModel(model.encoder, model.predictor, parts={"success": SuccessProbe(CONFIG)})
        for _ in range(2)
    )
    assert _fingerprint(first, evaluation) != _fingerprint(second, evaluation)
    with pytest.raises(ValueError, match="no success probe"):
        _fingerprint(small_world_model(), evaluation)


@pytest.mark.parametrize(
    "config", [{}, {**CONFIG, "blocks": 0}, {**CONFIG, "heads": 5}, {**CONFIG, "more": 1}]
)
def test_a_configuration_that_is_none_is_refused(config):
    with pytest.raises(ValueError):
        SuccessProbe(config)


def test_the_command_trains_a_probe_and_leaves_the_model_as_it_is(tmp_path, capsys):
    start, output = tmp_path / "start", tmp_path / "probed"
    model = small_world_model()
    save_world_model(model, start, {"made": "for a test"})
    words = ("--probe", "--from", start, "--episodes", 16, "--probe-iterations", 3, "--batch", 6)
    folders = ("--folder", tmp_path / "run", "--output", output, "--device", "cpu")
    assert cli.run(command(*words, *folders)) == 0
    card = json.loads((output / "config.json").read_text())["card"]
    assert (tmp_path / "run" / "success_reliability.png").stat().st_size > 1000
    assert card["made"] == "for a test"
    assert set(card["success"]["unseen_episodes"]) == set(QUESTIONS)
    assert "unseen_episodes" in capsys.readouterr().out
    probed = load_world_model(output)
    assert probed.fingerprint == model.fingerprint and set(probed.parts) == {"success"}
    assert all(np.isfinite(list(probed.success(*latents(2)).values())))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--probe",), "--probe needs --from"),
        (("--probe", "--from", "tabletop", "--output", "models/tabletop"), "would replace"),
        (("--probe-iterations", 3), "cannot be used without --probe"),
        (("--probe", "--from", "tabletop", "--recording", "x"), "--recording cannot be used with"),
    ],
)
def test_options_that_do_not_go_together_are_refused(words, said, capsys):
    assert cli.run(command(*words)) == 2
    assert said in capsys.readouterr().err
