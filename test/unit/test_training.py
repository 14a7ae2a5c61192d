# SPDX-License-Identifier: Apache-2.0
"""The training recipe at the smallest size: whole, resumable, blind to the truth about objects."""

import argparse
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from vjepa2_ros.cli import train as cli
from vjepa2_ros.training.dataset import Dataset, collect
from vjepa2_ros.training.loop import LoopConfig
from vjepa2_ros.training.predictor_training import encode_dataset, start_as_identity
from vjepa2_ros.training.pretrain import PretrainConfig, encode_patches, pretrain
from vjepa2_ros.training.readout import ridge
from vjepa2_ros.training.recipe import (
    Recipe,
    RecipeError,
    encoder_geometry,
    keep_recipe,
    predictor_geometry,
)
from vjepa2_ros.training.recipe import run as train_all
from vjepa2_ros.world_model.checkpoint import load_world_model
from vjepa2_ros.world_model.encoder import Encoder
from vjepa2_ros.world_model.predictor import ActionConditionedPredictor
from vjepa2_ros.world_model.preprocessing import preprocess

TINY = Recipe(
    episodes=6,
    length=5,
    held_out=2,
    image_size=64,
    width=48,
    encoder_layers=1,
    predictor_layers=1,
    pretrain=PretrainConfig(batch=4),
    pretrain_loop=LoopConfig(4, checkpoint_every=2),
    predictor_batch=4,
    predictor_loop=LoopConfig(4, checkpoint_every=2),
)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return collect(
        tmp_path_factory.mktemp("data"), TINY.episodes, TINY.length, TINY.image_size, seed=0
    )


def test_a_recording_shows_motion_within_the_planners_bound(recording):
    steps = np.diff(recording.states[..., :3], axis=1)
    assert np.abs(steps).max() < 0.08
    assert np.abs(steps).mean() > 0.01
    assert recording.frames.std(axis=1).mean() > 0.5


def test_an_unfinished_recording_is_not_opened(tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished recording"):
        Dataset.open(tmp_path)


def test_the_whole_recipe_leaves_a_model_that_loads_and_its_figures(tmp_path):
    card = train_all(TINY, tmp_path / "work", tmp_path / "model", descents=1)
    model = load_world_model(tmp_path / "model")
    assert model.latent_shape == (16, 48)
    assert set(card["readout"]) == {"hand_m", "gripper_r2", "cup_m", "box_m"}
    assert len(card["imagined_relative_to_copy"]) == 4
    assert {"encoder.png", "predictor.png", "recipe.json"} <= {
        p.name for p in (tmp_path / "work").iterdir()
    }
    written = json.loads((tmp_path / "model" / "config.json").read_text())
    assert written["card"]["readout"] == card["readout"]


def test_an_interrupted_training_ends_at_the_weights_of_an_uninterrupted_one(recording, tmp_path):
    def train(folder, loop):
        torch.manual_seed(0)
        return pretrain(recording, Encoder(encoder_geometry(TINY)), TINY.pretrain, loop, folder, 4)

    whole = train(tmp_path / "whole", TINY.pretrain_loop)
    interrupted = tmp_path / "interrupted"
    with pytest.raises(KeyboardInterrupt):
        broken = Dataset(
            InterruptedFrames(recording.frames, reads=6), recording.states, recording.objects
        )
        torch.manual_seed(0)
        pretrain(
            broken,
            Encoder(encoder_geometry(TINY)),
            TINY.pretrain,
            TINY.pretrain_loop,
            interrupted,
            4,
        )
    resumed = train(interrupted, TINY.pretrain_loop)
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], weight, rtol=1e-5, atol=1e-6)
    assert len((interrupted / "encoder.jsonl").read_text().splitlines()) == 4


class InterruptedFrames:
    """Frames that a user interrupts after so many reads."""

    def __init__(self, frames, reads):
        self.frames, self.reads, self.shape = frames, reads, frames.shape

    def __getitem__(self, index):
        if self.reads == 0:
            raise KeyboardInterrupt
        self.reads -= 1
        return self.frames[index]


def test_training_never_opens_the_truth_about_objects(recording, tmp_path):
    blind = Dataset(recording.frames, recording.states, None)
    pretrain(
        blind,
        Encoder(encoder_geometry(TINY)),
        TINY.pretrain,
        replace(TINY.pretrain_loop, iterations=1),
        tmp_path,
        4,
    )


def test_latents_are_made_anew_for_other_weights_or_another_recording(recording, tmp_path):
    def encoder(seed):
        torch.manual_seed(seed)
        return Encoder(encoder_geometry(TINY)).eval()

    first = np.array(encode_dataset(recording, encoder(0), tmp_path))
    made = (tmp_path / "latents.npy").stat().st_mtime_ns
    np.testing.assert_array_equal(encode_dataset(recording, encoder(0), tmp_path), first)
    assert (tmp_path / "latents.npy").stat().st_mtime_ns == made

    other_weights = np.array(encode_dataset(recording, encoder(1), tmp_path))
    assert np.abs(other_weights - first).max() > 0.1
    darker = Dataset(recording.frames // 2, recording.states, recording.objects)
    assert np.abs(encode_dataset(darker, encoder(1), tmp_path) - other_weights).max() > 0.1


def test_latents_of_unknown_origin_are_not_used(recording, tmp_path):
    encoder = Encoder(encoder_geometry(TINY)).eval()
    wanted = np.array(encode_dataset(recording, encoder, tmp_path))
    np.save(tmp_path / "latents.npy", np.zeros_like(wanted))
    (tmp_path / "latents.json").unlink()
    np.testing.assert_array_equal(encode_dataset(recording, encoder, tmp_path), wanted)


def test_a_folder_keeps_to_its_recipe_and_names_what_differs_in_another(tmp_path):
    keep_recipe(TINY, tmp_path)
    keep_recipe(TINY, tmp_path)
    # As it was written before, and must stay readable.
    assert (tmp_path / "recipe.json").read_text() == json.dumps(asdict(TINY), indent=1)
    other = replace(TINY, seed=3, pretrain_loop=replace(TINY.pretrain_loop, iterations=9))
    with pytest.raises(RecipeError, match=r"\(pretrain_loop.iterations, seed\): choose another"):
        train_all(other, tmp_path, tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.json"]
    keep_recipe(TINY, tmp_path)


def test_a_recipe_of_another_version_is_told_by_the_settings_it_lacks(tmp_path):
    settings = asdict(TINY)
    del settings["heads"]
    (tmp_path / "recipe.json").write_text(json.dumps(settings | {"tails": 2}))
    with pytest.raises(RecipeError, match=r"\(heads, tails\)"):
        keep_recipe(TINY, tmp_path)
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(RecipeError, match="cannot be read"):
        keep_recipe(TINY, tmp_path)


def command(*words):
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def test_a_folder_of_another_recipe_ends_the_command_with_2(tmp_path, capsys):
    keep_recipe(TINY, tmp_path)
    assert cli.run(command("--folder", tmp_path, "--output", tmp_path / "model")) == 2
    said = capsys.readouterr().err
    assert "episodes" in said and "choose another --folder" in said


def test_a_recording_too_short_to_hold_something_out_ends_the_command_with_2(tmp_path, capsys):
    folder = tmp_path / "work"
    assert cli.run(command("--folder", folder, "--episodes", 1)) == 2
    assert "of 1 episodes" in capsys.readouterr().err and not folder.exists()


def test_arguments_change_the_recipe_and_nothing_else_does():
    assert cli.chosen_recipe(command()) == Recipe()
    words = ("--pretrain-iterations", 5, "--state-weight", 0, "--seed", 7, "--episodes", 40)
    recipe = cli.chosen_recipe(command(*words))
    assert recipe.pretrain_loop == LoopConfig(5, seed=7)
    assert recipe.predictor_loop == replace(Recipe().predictor_loop, seed=7)
    assert (recipe.pretrain.state_weight, recipe.episodes, recipe.held_out) == (0.0, 40, 2)


def test_all_patches_encoded_as_a_subset_equal_the_whole_frame(recording):
    torch.manual_seed(0)
    encoder = Encoder(encoder_geometry(TINY))
    frames = preprocess(recording.frames[0, :2], encoder.size)
    everything = torch.arange(16).expand(2, -1)
    torch.testing.assert_close(
        encode_patches(encoder, frames, everything), encoder(frames), rtol=1e-4, atol=1e-4
    )


def test_a_predictor_started_as_the_identity_returns_its_frame():
    torch.manual_seed(0)
    predictor = ActionConditionedPredictor(predictor_geometry(TINY))
    start_as_identity(predictor)
    latents = torch.nn.functional.layer_norm(torch.randn(2, 16, 48), (48,))
    predicted = predictor(latents, torch.zeros(2, 1, 7), torch.zeros(2, 1, 7))
    assert (predicted - latents).abs().mean() < 0.05


def test_a_predictor_of_another_width_cannot_start_as_the_identity():
    other = replace(predictor_geometry(TINY), predictor_embed_dim=96)
    with pytest.raises(ValueError, match="as wide as the encoder"):
        start_as_identity(ActionConditionedPredictor(other))


def test_the_ridge_read_out_recovers_a_linear_map():
    torch.manual_seed(0)
    features = torch.randn(500, 20)
    truth = torch.randn(20, 3)
    weights, offset = ridge(features, features @ truth + 2.0, strength=1e-6)
    torch.testing.assert_close(weights, truth, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(offset, torch.full((3,), 2.0), atol=1e-3, rtol=1e-3)
