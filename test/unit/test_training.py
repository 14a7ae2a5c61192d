# SPDX-License-Identifier: Apache-2.0
"""The training recipe at the smallest size: whole, resumable, blind to the truth about objects."""

import json
import os
import pkgutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from small_model import small_predictor
from tiny_training import RECORDING, TINY, WITH_APPROACHES, command

from vjepa2_ros.cli import train as cli
from vjepa2_ros.settings.stack import StackSettings
from vjepa2_ros.training import loop as loop_module
from vjepa2_ros.training import recipe as recipe_module
from vjepa2_ros.training.dataset import Dataset
from vjepa2_ros.training.loop import LoopConfig
from vjepa2_ros.training.predictor_training import (
    Recorded,
    Rollout,
    encode_dataset,
    error_by_step,
    scale_inputs,
    start_as_identity,
    train_predictor,
)
from vjepa2_ros.training.pretrain import (
    MaskedPrediction,
    PretrainConfig,
    encode_patches,
    pretrain,
    run_layers,
)
from vjepa2_ros.training.readout import ridge
from vjepa2_ros.training.recipe import (
    RECIPES,
    Recipe,
    RecipeError,
    encoder_geometry,
    keep_recipe,
    predictor_geometry,
)
from vjepa2_ros.training.recipe import run as train_all
from vjepa2_ros.training.recording import collect
from vjepa2_ros.world_model.checkpoint import load_world_model
from vjepa2_ros.world_model.encoder import Encoder
from vjepa2_ros.world_model.poses import difference
from vjepa2_ros.world_model.predictor import ActionConditionedPredictor
from vjepa2_ros.world_model.preprocessing import preprocess


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return collect(tmp_path_factory.mktemp("data"), RECORDING)


def test_the_whole_recipe_leaves_a_model_that_loads_and_its_figures(tmp_path):
    card = train_all(WITH_APPROACHES, tmp_path / "work", tmp_path / "model", descents=1)
    model = load_world_model(tmp_path / "model")
    assert model.latent_shape == (16, 48)
    assert set(card["readout"]) == {"hand_m", "gripper_r2", "cup_m", "box_m"}
    assert len(card["prediction_relative_to_copy"]) == 4
    assert set(model.parts) == {"uncertainty"}, "not loaded with the predictor"
    figures = {"encoder.png", "predictor.png", "uncertainty.png"}
    assert {*figures, "recipe.json"} <= {p.name for p in (tmp_path / "work").iterdir()}
    written = json.loads((tmp_path / "model" / "config.json").read_text())
    assert written["card"]["readout"] == card["readout"]


def test_an_interrupted_training_ends_at_the_weights_of_an_uninterrupted_one(recording, tmp_path):
    def train(folder, loop):
        torch.manual_seed(0)
        encoder = Encoder(encoder_geometry(TINY))
        return torch.nn.ModuleList(pretrain(recording, encoder, TINY.pretrain, loop, folder, 4))

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


@pytest.fixture
def train_tiny(recording, tmp_path, monkeypatch):
    """Trains TINY on the recording in a folder of this name; returns the folder of the model."""
    monkeypatch.setattr(recipe_module, "descend", lambda *arguments: {})

    def train(name, tiny=TINY):
        folder = tmp_path / name
        if not folder.exists():
            copy_recording(recording, folder)
        train_all(tiny, folder, folder / "model")
        return folder / "model"

    return train


def copy_recording(recording, folder):
    (folder / "data").mkdir(parents=True)
    for name in ("frames", "states", "objects", "commanded"):
        np.save(folder / "data" / f"{name}.npy", getattr(recording, name))
    (folder / "data" / "dataset.json").write_text(json.dumps(asdict(RECORDING)))


def test_a_training_interrupted_in_every_stage_ends_at_the_weights_of_an_uninterrupted_one(
    train_tiny, tmp_path, monkeypatch
):
    whole = load_world_model(train_tiny("whole", WITH_APPROACHES))
    for target, calls in (
        ("pretrain.draw_pairs", 3),
        ("predictor_training.preprocess", 0),
        ("predictor_training.Rollout.losses", 3),
        ("recipe.new_uncertainty", 0),
        ("uncertainty_training._Likelihood.losses", 3),
        ("recipe.read_out", 0),
        ("recipe.save_world_model", 0),
    ):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            interrupt(patch, f"vjepa2_ros.training.{target}", calls)
            train_tiny("interrupted", WITH_APPROACHES)
    resumed = load_world_model(train_tiny("interrupted", WITH_APPROACHES))
    assert resumed.fingerprint == whole.fingerprint
    uncertainties = (each.parts["uncertainty"].state_dict() for each in (resumed, whole))
    torch.testing.assert_close(*uncertainties, rtol=0, atol=0)
    for name in ("encoder.jsonl", "predictor.jsonl", "uncertainty.jsonl"):
        histories = [(tmp_path / each / name).read_text() for each in ("whole", "interrupted")]
        assert histories[0] == histories[1] and len(histories[0].splitlines()) == 4


def interrupt(patch, target, calls):
    """Ctrl-C in a function, after this many calls of it."""
    original, left = pkgutil.resolve_name(target), iter(range(calls))

    def interrupted(*arguments, **options):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    patch.setattr(target, interrupted)


TRAIN_TOGETHER = """
import sys
from contextlib import nullcontext
from pathlib import Path
import torch
from tiny_training import TINY
from vjepa2_ros.training import loop, recipe
from vjepa2_ros.training.distributed import FirstProcessError, by_first, is_first, processes

recipe.descend = lambda *arguments: {}
loop.precision = lambda device: nullcontext()
folder = Path(sys.argv[1])
with processes(torch.device("cpu")) as device:
    recipe.run(TINY, folder, folder / "model", device=device)
    try:
        by_first(lambda: (folder / "absent").read_text())
    except FileNotFoundError:
        assert is_first()
    except FirstProcessError:
        assert not is_first()
"""


def test_two_processes_train_the_weights_of_a_single_one(
    recording, train_tiny, tmp_path, monkeypatch
):
    """Within 1e-6, where each weight was moved by up to 1e-4; in float32 on any processor."""
    monkeypatch.setattr(loop_module, "precision", lambda device: nullcontext())
    train_tiny("single")
    together = tmp_path / "together"
    copy_recording(recording, together)
    words = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    words += ["--nproc-per-node", "2", "--no-python", sys.executable, "-c", TRAIN_TOGETHER]
    ended = subprocess.run(
        [sys.executable, *words, str(together)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("predictor:   0%") == 1
    for part in ("encoder", "predictor"):
        histories, checkpoints = [], []
        for folder in (tmp_path / "single", together):
            lines = (folder / f"{part}.jsonl").read_text().splitlines()
            histories.append([json.loads(line)["loss"] for line in lines])
            checkpoints.append(torch.load(folder / f"{part}.pt", weights_only=True)["module"])
        np.testing.assert_allclose(*histories, rtol=1e-5)
        torch.testing.assert_close(*checkpoints, rtol=0, atol=1e-6)
    assert load_world_model(together / "model").latent_shape == (16, 48)


@pytest.mark.parametrize("batch", ["pretrain", "predictor_batch"])
def test_a_batch_that_the_processes_cannot_share_equally_is_refused(tmp_path, monkeypatch, batch):
    monkeypatch.setattr(recipe_module, "process_count", lambda: 4)
    value = PretrainConfig(batch=6) if batch == "pretrain" else 6
    with pytest.raises(RecipeError, match="4 processes cannot share a batch of 6 equally"):
        train_all(replace(TINY, **{batch: value}), tmp_path / "work", tmp_path / "model")
    assert not (tmp_path / "work").exists()


class InterruptedFrames:
    """Frames that a user interrupts after this many reads."""

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
    assert cli.chosen_recipe(command(), StackSettings()) == Recipe()
    words = ("--pretrain-iterations", 5, "--state-weight", 0, "--seed", 7, "--episodes", 40)
    recipe = cli.chosen_recipe(command(*words), StackSettings())
    assert recipe.pretrain_loop == replace(Recipe().pretrain_loop, iterations=5, seed=7)
    assert recipe.predictor_loop == replace(Recipe().predictor_loop, seed=7)
    assert recipe.uncertainty_loop == replace(Recipe().uncertainty_loop, seed=7)
    assert (recipe.pretrain.state_weight, recipe.episodes, recipe.held_out) == (0.0, 40, 2)
    assert cli.chosen_recipe(command("--approaches", 0), StackSettings()) == Recipe(approaches=0)


def test_the_recipe_may_be_chosen_by_name_and_is_changed_by_the_same_arguments():
    assert tuple(RECIPES) == cli.RECIPE_NAMES
    assert cli.chosen_recipe(command("--recipe", "small"), StackSettings()) == Recipe()
    base = RECIPES["base"]
    assert cli.chosen_recipe(command("--recipe", "base"), StackSettings()) == base
    words = ("--recipe", "base", "--predictor-iterations", 5, "--episodes", 40, "--seed", 7)
    changed = cli.chosen_recipe(command(*words), StackSettings())
    assert changed.predictor_loop == replace(base.predictor_loop, iterations=5, seed=7)
    assert (changed.width, changed.episodes, changed.seed) == (base.width, 40, 7)


def test_an_unknown_recipe_is_refused_with_the_names_of_all(capsys):
    with pytest.raises(SystemExit) as ended:
        command("--recipe", "huge")
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "invalid choice: 'huge'" in said and all(name in said for name in RECIPES)


def test_the_small_checkpoint_stays_below_40_mb():
    with torch.device("meta"):
        encoder = Encoder(encoder_geometry(Recipe()))
        predictor = ActionConditionedPredictor(predictor_geometry(Recipe()))
    weights = [*encoder.parameters(), *predictor.parameters()]
    assert sum(weight.nbytes for weight in weights) < 40e6


def test_fast_layers_equal_those_of_transformers():
    torch.manual_seed(0)
    layers = Encoder(encoder_geometry(replace(TINY, encoder_layers=3))).model.encoder.layer
    tokens = torch.randn(2, 7, 48)
    # Indices of patches in two frames of 16.
    places = torch.stack([torch.randperm(32)[:7] for _ in range(2)])
    expected = tokens
    for layer in layers:
        expected = layer(expected, places)[0]
    torch.testing.assert_close(run_layers(layers, tokens, places), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("length", [3, 5])
def test_losses_that_share_keys_and_values_equal_those_of_whole_sequences(length):
    torch.manual_seed(0)
    rollout = Rollout(small_predictor())
    latents = torch.nn.functional.layer_norm(torch.randn(2, length, 16, 48), (48,))
    states = torch.randn(2, length, 7)
    actions = difference(states[:, :-1], states[:, 1:])

    def predict(frames):
        count = frames.shape[1]
        predicted = rollout.predictor(frames.flatten(1, 2), actions[:, :count], states[:, :count])
        return torch.nn.functional.layer_norm(predicted, (48,)).unflatten(1, (count, 16))

    teacher = (predict(latents[:, :-1]) - latents[:, 1:]).abs().mean()
    frames = latents[:, :1]
    for _ in range(length - 1):
        frames = torch.cat([frames, predict(frames)[:, -1:]], dim=1)
    expected = teacher + (frames[:, 2:] - latents[:, 2:]).abs().mean()
    losses = rollout.losses(latents, states)
    torch.testing.assert_close(losses["teacher"], teacher, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(losses["loss"], expected, rtol=1e-5, atol=1e-5)
    weight = rollout.predictor.predictor_blocks[0].attn.qkv.weight
    gradients = [torch.autograd.grad(loss, weight)[0] for loss in (losses["loss"], expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_all_patches_encoded_as_a_subset_equal_the_whole_frame(recording):
    torch.manual_seed(0)
    encoder = Encoder(encoder_geometry(TINY))
    frames = preprocess(recording.frames[0, :2], encoder.size)
    everything = torch.arange(16).expand(2, -1)
    torch.testing.assert_close(
        encode_patches(encoder, frames, everything), encoder(frames), rtol=1e-4, atol=1e-4
    )


def test_every_latent_gives_the_position_and_their_mean_gripper_and_yaw():
    torch.manual_seed(0)
    module = MaskedPrediction(Encoder(encoder_geometry(TINY)), TINY.pretrain)
    gain, axes = TINY.pretrain.state_gain, module.state_projection.weight
    state = torch.tensor([[0.1, -0.2, 0.3, 0.5, -0.4]])
    given = gain * (state @ axes).expand(1, 16, -1)
    torch.testing.assert_close(
        torch.stack(module.state_losses(given, state)), torch.zeros(3), rtol=0, atol=1e-10
    )
    # One patch gives what the others do not: enough for gripper and yaw, not for the position.
    alone = torch.cat([16 * given[:, :1], torch.zeros_like(given[:, 1:])], dim=1)
    position, gripper, yaw = module.state_losses(alone, state)
    assert position > 0.1
    torch.testing.assert_close(torch.stack([gripper, yaw]), torch.zeros(2), rtol=0, atol=1e-10)
    _, gripper, yaw = module.state_losses(torch.zeros_like(given), state)
    torch.testing.assert_close(torch.stack([gripper, yaw]), torch.tensor([0.25, 0.16]))


def test_layers_calculate_in_bfloat16_where_the_device_can_and_sums_stay_in_float32(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    torch.manual_seed(0)
    predictor = small_predictor()
    start_as_identity(predictor)
    seen = {}
    block = predictor.predictor_blocks[0]
    block.mlp.fc1.register_forward_hook(lambda *call: seen.update(layer=call[2].dtype))
    block.register_forward_hook(lambda *call: seen.update(sum=call[2].dtype))
    rollout = Rollout(predictor)
    latents, states = torch.randn(2, 3, 16, 48), torch.randn(2, 3, 7)

    def losses(random, progress):
        return rollout.losses(latents, states)

    loop_module.train("predictor", rollout, losses, LoopConfig(1, warmup=1), tmp_path)
    assert seen == {"layer": torch.bfloat16, "sum": torch.float32}
    assert {weight.dtype for weight in predictor.parameters()} == {torch.float32}
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    loop_module.train("again", rollout, losses, LoopConfig(1, warmup=1), tmp_path)
    assert seen["layer"] == torch.float32


def test_a_predictor_started_as_the_identity_returns_its_frame():
    torch.manual_seed(0)
    predictor = ActionConditionedPredictor(predictor_geometry(TINY))
    start_as_identity(predictor)
    latents = torch.nn.functional.layer_norm(torch.randn(2, 16, 48), (48,))
    predicted = predictor(latents, torch.zeros(2, 1, 7), torch.zeros(2, 1, 7))
    assert (predicted - latents).abs().mean() < 0.05


def test_scaled_inputs_tell_lengths_and_the_gripper_and_ignore_a_roll_of_either_sign():
    torch.manual_seed(0)
    predictor = ActionConditionedPredictor(predictor_geometry(TINY))
    start_as_identity(predictor)
    random = np.random.default_rng(0)
    states = np.zeros((50, 6, 7), np.float32)
    states[..., :3] = [0.5, 0.0, 0.2] + np.cumsum(random.normal(0, 0.05, (50, 6, 3)), axis=1)
    states[..., 3] = np.pi * random.choice([-1, 1], (50, 6))
    states[..., 6] = random.choice([0.0, 1.0], (50, 6))
    scale_inputs(predictor, states)
    norm = predictor.predictor_blocks[0].norm1

    def token(layer, *values):
        return norm(layer(torch.tensor(values, dtype=torch.float32)))

    here = token(predictor.state_encoder, 0.5, 0, 0.2, np.pi, 0, 0, 0)
    same = token(predictor.state_encoder, 0.5, 0, 0.2, -np.pi, 0, 0, 0)
    there = token(predictor.state_encoder, 0.6, 0, 0.2, np.pi, 0, 0, 0)
    torch.testing.assert_close(here, same)
    assert (there - here).norm() > 0.1 * here.norm()
    near, far, closing = (
        token(predictor.action_encoder, x, 0, 0, 0, 0, 0, gripper)
        for x, gripper in ((0.02, 0), (0.07, 0), (0.02, 1))
    )
    for other in (far, closing):
        assert (other - near).norm() > 0.2 * near.norm()


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


def cell_file(tmp_path):
    path = tmp_path / "cell.yaml"
    path.write_text("/**:\n  ros__parameters:\n    workspace.lower: [0.4, -0.2, 0.1]\n")
    return path


def test_the_workspace_of_a_parameter_file_is_recorded_in(tmp_path, monkeypatch):
    seen = []

    def train(recipe, folder, output, device, name):
        seen.append(recipe)
        return {"recipe": {}}

    monkeypatch.setattr("vjepa2_ros.training.recipe.run", train)
    assert cli.run(command("--config", cell_file(tmp_path))) == 0
    assert seen[0].workspace.lower == (0.4, -0.2, 0.1)


# Devices


def test_no_tensor_of_the_predictor_training_stays_on_the_cpu():
    """The device `meta` has no values, but does not mix with the CPU."""
    module = Rollout(ActionConditionedPredictor(predictor_geometry(TINY))).to("meta")
    losses = module.losses(
        torch.zeros(2, 3, 16, 48, device="meta"), torch.zeros(2, 3, 7, device="meta")
    )
    losses["loss"].backward()
    assert {loss.device.type for loss in losses.values()} == {"meta"}


def test_no_tensor_of_the_pretraining_stays_on_the_cpu():
    module = MaskedPrediction(Encoder(encoder_geometry(TINY)), TINY.pretrain).to("meta")
    frames, patches = torch.zeros(2, 3, 64, 64), torch.arange(8).expand(2, -1)
    inputs = (frames, frames, patches[:, :3], patches[:, 3:], torch.zeros(2, 5))
    losses = module.losses(*(value.to("meta") for value in inputs))
    losses["loss"].backward()
    module.follow(0.5)
    assert {loss.device.type for loss in losses.values()} == {"meta"}


def test_every_batch_is_moved_to_the_device_of_the_weights(recording, tmp_path):
    """On the device `meta` a run ends where it needs the first value of a result."""
    latents = np.zeros((TINY.episodes, TINY.length, 16, 48), np.float16)
    recorded = Recorded(latents, recording.states)
    predictor = ActionConditionedPredictor(predictor_geometry(TINY)).to("meta")
    encoder = Encoder(encoder_geometry(TINY)).to("meta")
    seen = set()
    embeddings = encoder.model.encoder.embeddings
    embeddings.register_forward_pre_hook(lambda _, inputs: seen.add(inputs[0].device.type))
    loop = TINY.predictor_loop
    for run in (
        lambda: train_predictor([recorded], predictor, 4, loop, tmp_path),
        lambda: pretrain(recording, encoder, TINY.pretrain, loop, tmp_path, 4),
        lambda: encode_dataset(recording, encoder, tmp_path),
        lambda: error_by_step(predictor, latents, recording.states, 2),
    ):
        with pytest.raises(RuntimeError, match="out of meta|called on meta"):
            run()
    assert seen == {"meta"}


def test_a_training_of_another_device_is_resumed(recording, tmp_path, monkeypatch):
    latents = np.random.default_rng(0).normal(size=(6, 5, 16, 48)).astype(np.float16)
    recorded = Recorded(latents, recording.predictor_states(True))

    def train(iterations):
        torch.manual_seed(0)
        predictor = ActionConditionedPredictor(predictor_geometry(TINY))
        loop = LoopConfig(iterations, warmup=1)
        train_predictor([recorded], predictor, 4, loop, tmp_path)
        return predictor

    with monkeypatch.context() as patch:
        # As on a machine with a GPU, which this one may lack.
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        first = train(1)
    resumed = train(1)
    torch.testing.assert_close(resumed.state_dict(), first.state_dict(), rtol=0, atol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="NO GPU: training on one is not tested")
def test_the_recipe_runs_on_a_gpu_and_is_resumed_on_the_cpu(tmp_path):
    train_all(TINY, tmp_path, tmp_path / "model", descents=1, device="cuda")
    for name in ("encoder.pt", "predictor.pt"):
        assert (tmp_path / name).is_file()
    card = train_all(TINY, tmp_path, tmp_path / "model", descents=1, device="cpu")
    assert len(card["prediction_relative_to_copy"]) == 4


def test_an_absent_device_ends_the_command_with_2(tmp_path, capsys):
    folder = tmp_path / "work"
    assert cli.run(command("--folder", folder, "--device", "cuda:99")) == 2
    assert "device 'cuda:99' is absent" in capsys.readouterr().err and not folder.exists()
