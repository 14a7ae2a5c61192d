# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning a model on recordings of one's own."""

import os

import numpy as np
import pytest
import torch
from small_model import small_predictor, small_world_model
from tiny_training import TINY, command

from vjepa2_ros.cli import train as cli
from vjepa2_ros.training.dataset import RecordingError
from vjepa2_ros.training.fine_tuning import FineTuning, fine_tune
from vjepa2_ros.training.loop import LoopConfig
from vjepa2_ros.training.pretrain import (
    PretrainConfig,
)
from vjepa2_ros.training.recipe import (
    RecipeError,
)
from vjepa2_ros.training.recipe import run as train_all
from vjepa2_ros.world_model.checkpoint import load_world_model, save_world_model


@pytest.fixture
def start(tmp_path):
    model = small_world_model(3)
    save_world_model(model, tmp_path / "start", {})
    return tmp_path / "start"


def tuning(model, **changes):
    loop = LoopConfig(4, learning_rate=1e-3, warmup=1, checkpoint_every=2)
    return FineTuning(model.fingerprint, episodes=4, length=5, batch=4, **{"loop": loop} | changes)


def test_fine_tuning_without_iterations_returns_exactly_the_same_weights(start, tmp_path):
    model = load_world_model(start)
    settings = tuning(model, loop=LoopConfig(0))
    fine_tune(model, settings, tmp_path / "work", tmp_path / "tuned")
    before, after = load_world_model(start), load_world_model(tmp_path / "tuned")
    assert after.fingerprint == before.fingerprint
    for part in ("encoder", "predictor"):
        states = [getattr(each, part).state_dict() for each in (before, after)]
        torch.testing.assert_close(*states, rtol=0, atol=0)


def test_fine_tuning_changes_the_predictor_only_and_not_the_file_it_starts_from(start, tmp_path):
    stored = (start / "model.safetensors").read_bytes()
    model = load_world_model(start)
    card = fine_tune(model, tuning(model), tmp_path / "work", tmp_path / "tuned")
    assert (start / "model.safetensors").read_bytes() == stored
    before, after = load_world_model(start), load_world_model(tmp_path / "tuned")
    torch.testing.assert_close(
        after.encoder.state_dict(), before.encoder.state_dict(), rtol=0, atol=0
    )
    weights = [each.predictor.predictor_proj.weight for each in (before, after)]
    assert 0 < (weights[1] - weights[0]).abs().max() < 0.02
    errors = card["prediction_relative_to_copy"]
    assert np.mean(errors["after"]) < np.mean(errors["before"])


def test_an_uncertainty_is_fine_tuned_with_the_predictor_that_it_is_of(tmp_path):
    train_all(TINY, tmp_path / "from", tmp_path / "start", descents=1)
    model = load_world_model(tmp_path / "start")
    fine_tune(model, tuning(model), tmp_path / "work", tmp_path / "tuned")
    before, after = (load_world_model(tmp_path / name) for name in ("start", "tuned"))
    weights = [each.parts["uncertainty"].network.predictor_proj.weight for each in (before, after)]
    assert 0 < (weights[1] - weights[0]).abs().max() < 0.02


def test_fine_tuning_again_resumes_and_another_start_is_refused(start, tmp_path):
    def tune(model):
        return fine_tune(model, tuning(model), tmp_path / "work", tmp_path / "tuned")

    tune(load_world_model(start))
    first = load_world_model(tmp_path / "tuned").fingerprint
    tune(load_world_model(start))
    assert load_world_model(tmp_path / "tuned").fingerprint == first
    with pytest.raises(RecipeError, match=r"\(start\)"):
        tune(small_world_model(4))


def own_recording(folder, episodes=3, length=4, **changes):
    """A recording of a robot: no truth about objects, images that are not square."""
    folder.mkdir()
    random = np.random.default_rng(0)
    arrays = {
        "frames": random.integers(0, 256, (episodes, length, 90, 120, 3), dtype=np.uint8),
        "states": random.normal(size=(episodes, length, 7)).astype(np.float32),
    }
    for name, array in (arrays | changes).items():
        np.save(folder / f"{name}.npy", array)
    (folder / "dataset.json").write_text("{}")
    return folder


def test_the_command_fine_tunes_on_a_recording_of_ones_own(start, tmp_path, capsys):
    words = ("--from", start, "--recording", own_recording(tmp_path / "own"), "--batch", 2)
    words += ("--folder", tmp_path / "work", "--output", tmp_path / "tuned")
    assert cli.run(command(*words, "--predictor-iterations", 2)) == 0
    assert "prediction_relative_to_copy" in capsys.readouterr().out
    assert load_world_model(tmp_path / "tuned").fingerprint != load_world_model(start).fingerprint
    assert not (tmp_path / "work" / "data").exists()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"frames": np.zeros((3, 4, 90, 120, 3), np.float32)}, "frames.npy must be uint8"),
        ({"frames": np.zeros((3, 4, 90, 120), np.uint8)}, "frames.npy must be uint8"),
        ({"states": np.zeros((3, 5, 7), np.float32)}, r"must be float32 \[3, 4, 7\]"),
        ({"states": np.full((3, 4, 7), np.nan, np.float32)}, "not finite"),
        ({"states": np.array([None])}, "cannot be read"),
        ({"states": np.full((3, 4, 7), 450.0, np.float32)}, "are they metres"),
        ({"episodes": 1}, "of 1 episodes 1 would be held out"),
        ({"length": 2}, "have 2 frames"),
    ],
)
def test_a_recording_that_cannot_be_trained_on_ends_the_command_with_2(
    start, tmp_path, capsys, changes, complaint
):
    folder = own_recording(tmp_path / "own", **changes)
    words = ("--from", start, "--recording", folder, "--folder", tmp_path / "work")
    assert cli.run(command(*words, "--output", tmp_path / "tuned")) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    with pytest.raises((RecordingError, RecipeError), match=complaint):
        model = load_world_model(start)
        settings = tuning(model, recording=str(folder))
        fine_tune(model, settings, tmp_path / "other", tmp_path / "tuned")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ("--from", "nothing"),
            "or the name of a shipped model (tabletop, tabletop_without_state)",
        ),
        (("--from", "tabletop", "--state-weight", 1), "--state-weight cannot be used with --from"),
        (("--from", "tabletop", "--recording", "x", "--episodes", 3), "--episodes cannot be used"),
        (("--recording", "x"), "--recording cannot be used without --from"),
        (("--batch", 3), "--batch cannot be used without --from"),
        (("--config", "nothing.yaml"), "nothing.yaml"),
    ],
)
def test_arguments_that_cannot_be_used_end_the_command_with_2(tmp_path, capsys, words, complaint):
    folder = tmp_path / "work"
    assert cli.run(command("--folder", folder, *words)) == 2
    error = capsys.readouterr().err
    assert complaint in error and len(error.splitlines()) == 1 and not folder.exists()


@pytest.mark.parametrize("damage", ["header", "pipe", "archive"])
def test_a_damaged_array_of_a_recording_is_refused(start, tmp_path, capsys, damage):
    folder = own_recording(tmp_path / "own")
    path = folder / "frames.npy"
    if damage == "header":
        path.write_bytes(path.read_bytes().replace(b"'shape': (", b"'shape': ((", 1))
    else:
        path.unlink()
        if damage == "pipe":
            os.mkfifo(path)
        else:
            with path.open("wb") as file:
                np.savez(file, frames=np.zeros(3))
    words = ("--from", start, "--recording", folder, "--folder", tmp_path / "work")
    assert cli.run(command(*words, "--output", tmp_path / "tuned")) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_a_training_that_diverges_leaves_no_model(start, tmp_path, capsys):
    words = ("--from", start, "--recording", own_recording(tmp_path / "own"), "--batch", 2)
    words += ("--learning-rate", 1e30, "--predictor-iterations", 4)
    words += ("--folder", tmp_path / "work", "--output", tmp_path / "tuned")
    assert cli.run(command(*words)) == 2
    assert "lower the learning rate" in capsys.readouterr().err
    assert not (tmp_path / "tuned" / "model.safetensors").exists()


def test_the_figures_of_a_recording_in_which_nothing_moves_are_valid_json(start, tmp_path):
    still = np.zeros((3, 4, 90, 120, 3), np.uint8)
    folder = own_recording(tmp_path / "own", frames=still, states=np.zeros((3, 4, 7), np.float32))
    fine_tune(
        load_world_model(start),
        tuning(load_world_model(start), recording=str(folder)),
        tmp_path / "work",
        tmp_path / "tuned",
    )
    text = (tmp_path / "tuned" / "config.json").read_text()
    assert "NaN" not in text and "Infinity" not in text


def test_fine_tuning_does_not_replace_the_model_that_it_starts_from(start, tmp_path, capsys):
    assert cli.run(command("--from", start, "--output", start, "--folder", tmp_path / "w")) == 2
    assert "would replace the model of --from" in capsys.readouterr().err


@pytest.mark.parametrize("options", [{"use_extrinsics": True}, {"num_frames": 3}])
def test_a_predictor_that_cannot_be_trained_on_recordings_is_refused(tmp_path, options):
    model = small_world_model()
    model.predictor = small_predictor(**options)
    with pytest.raises(RecipeError, match="cannot be fine-tuned"):
        fine_tune(model, tuning(model), tmp_path / "work", tmp_path / "tuned")


def test_fine_tuning_trains_the_encoder_on_when_asked(tmp_path):
    model = small_world_model()
    before = model.fingerprint
    weights = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    settings = tuning(model, pretrain=PretrainConfig(batch=4), pretrain_loop=LoopConfig(2))
    fine_tune(model, settings, tmp_path / "work", tmp_path / "tuned")
    tuned = load_world_model(tmp_path / "tuned", "cpu", "float32")
    assert tuned.fingerprint != before
    assert any(
        not torch.equal(value, weights[name]) for name, value in tuned.encoder.state_dict().items()
    )
