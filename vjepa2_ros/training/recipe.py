# SPDX-License-Identifier: Apache-2.0
"""Training of a model from nothing: data, encoder, predictor, figures, model folder."""

import json
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import VJEPA2Config

from vjepa2_ros.evaluation.writable import check_folder
from vjepa2_ros.settings.cell import Workspace
from vjepa2_ros.settings.planning import ActionSettings
from vjepa2_ros.simulation.simulator import Simulator, SimulatorConfig
from vjepa2_ros.tasks import load_task
from vjepa2_ros.tasks.task import TaskOptions, draw_episode
from vjepa2_ros.training.approach import APPROACH_LENGTH
from vjepa2_ros.training.descent import true_descent
from vjepa2_ros.training.distributed import by_first, process_count
from vjepa2_ros.training.loop import LoopConfig
from vjepa2_ros.training.predictor_training import (
    Recorded,
    encode_dataset,
    error_by_step,
    scale_inputs,
    start_as_identity,
    train_predictor,
)
from vjepa2_ros.training.pretrain import PretrainConfig, pretrain
from vjepa2_ros.training.readout import read_out
from vjepa2_ros.training.recording import RecordingConfig, collect
from vjepa2_ros.training.uncertainty_training import new_uncertainty, train_uncertainty
from vjepa2_ros.world_model.checkpoint import save_world_model
from vjepa2_ros.world_model.encoder import Encoder
from vjepa2_ros.world_model.parts import UNCERTAINTY
from vjepa2_ros.world_model.predictor import ActionConditionedPredictor, PredictorConfig
from vjepa2_ros.world_model.world_model import WorldModel


class RecipeError(ValueError):
    """Settings of a training that are invalid, or differ from those of its folder."""


MEASURED_STEPS = 4
"""Steps ahead over which the error of prediction is measured."""
_APPROACH_SEEDS = 50  # scenes of approaches are other ones than those of the first recording
_WITH_MUON: dict[str, Any] = {
    "matrix_learning_rate": 1e-2,
    "warmup": 50,
    "weight_decay": 0.01,
}


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the trained model; the device is no part of it.

    Attributes:
        episodes, length: size of the recording.
        play: share of the episodes that are play at the objects.
        turning: share of the episodes in which the hand turns about the vertical axis.
        held_out: episodes at its end that are not trained on, for the read-outs.
        image_size, patch_size: of the encoder [px].
        width, heads: of encoder and predictor.
        encoder_layers, predictor_layers: depths.
        pretrain, pretrain_loop: training of the encoder.
        predictor_batch: windows per step.
        predictor_window: frames in a window; rollouts are one action shorter.
        predictor_squared: whether the losses of the predictor are squared, see `Rollout`.
        predictor_loop: training of the predictor.
        approaches: episodes of a second recording, of short approaches to objects; 0: none.
        approach_share: of the batches that the uncertainty is trained on; the others are of the
            first recording.
        uncertainty_layers: depth of the part that tells how far predictions may be off.
        uncertainty_window: frames in a window of its training: one more than the longest plan.
        uncertainty_loop: that training, with batches as the predictor's.
        seed: of data, weights and batches.
        workspace: box in which the hand moves.
        max_translation: bound of one step on each axis [m].

    Raises:
        RecipeError: no episode is left to train on, or none to measure on, or the windows are
            longer than the episodes.
    """

    episodes: int = 3600
    length: int = 12
    play: float = 0.8
    turning: float = 0.4
    held_out: int = 150
    image_size: int = 128
    patch_size: int = 16
    width: int = 128
    heads: int = 4
    encoder_layers: int = 6
    predictor_layers: int = 4
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    pretrain_loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(2400, learning_rate=3e-3, **_WITH_MUON)
    )
    predictor_batch: int = 10
    predictor_window: int = 6
    predictor_squared: bool = True
    predictor_loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(6600, learning_rate=6e-3, **_WITH_MUON)
    )
    approaches: int = 2400
    approach_share: float = 0.5
    uncertainty_layers: int = 2
    uncertainty_window: int = 8
    uncertainty_loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(1500, learning_rate=3e-3, **_WITH_MUON)
    )
    seed: int = 0
    workspace: Workspace = Workspace()
    max_translation: float = ActionSettings().max_translation

    def __post_init__(self) -> None:
        check_held_out(self.held_out, self.episodes)
        window = max(self.predictor_window, self.uncertainty_window)
        if window > self.length:
            raise RecipeError(
                f"windows of {window} frames do not fit into episodes of {self.length}"
            )


def check_held_out(held_out: int, episodes: int) -> None:
    """Raise RecipeError if no episode is left to train on, or none to measure on."""
    if not 0 < held_out < episodes:
        raise RecipeError(
            f"of {episodes} episodes {held_out} would be held out: at least one must be held out "
            "and one left to train on"
        )


def check_shares(batch: int) -> None:
    """Raise RecipeError if the processes that train together cannot share a batch equally."""
    if batch % process_count():
        raise RecipeError(
            f"{process_count()} processes cannot share a batch of {batch} equally: start another "
            "number of processes"
        )


RECIPES = {
    "small": Recipe(),
    "base": Recipe(
        episodes=10_000,
        held_out=500,
        width=384,
        heads=6,
        encoder_layers=12,
        predictor_layers=8,
        pretrain=PretrainConfig(batch=256),
        pretrain_loop=LoopConfig(10_000, learning_rate=5e-4, warmup=500),
        predictor_batch=256,
        predictor_window=4,
        predictor_loop=LoopConfig(10_000, learning_rate=5e-4, warmup=500),
        approaches=10_000,
        uncertainty_loop=LoopConfig(2500, learning_rate=5e-4, warmup=100),
    ),
}
"""Recipes by name. "small" is for two CPU cores. "base" is for one GPU: about
10^17 operations in float32, which should take an hour. It was never measured on a GPU.
"""


def keep_recipe(recipe: Any, folder: Path) -> None:
    """Write a dataclass to `recipe.json` in a folder, or check that the one there is equal.

    Raises:
        OSError: the folder cannot be written.
        RecipeError: the one there differs, or cannot be read.
    """
    path = folder / "recipe.json"
    # Compared as JSON, where tuples are lists.
    wanted = json.loads(json.dumps(asdict(recipe)))
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(wanted, indent=1))
        return
    try:
        found = dict(json.loads(path.read_text()))
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{path} cannot be read ({error}): choose another --folder") from None
    if differing := _differing(wanted, found):
        raise RecipeError(
            f"{folder} holds a training of other settings ({', '.join(differing)}): choose "
            "another --folder"
        )


def _differing(wanted: dict, found: dict, prefix: str = "") -> list[str]:
    """Names of the settings that differ, with the names of their groups in front."""
    names = []
    for name in dict.fromkeys((*wanted, *found)):
        mine, other = wanted.get(name), found.get(name)
        if isinstance(mine, dict) and isinstance(other, dict):
            names += _differing(mine, other, f"{prefix}{name}.")
        elif mine != other:
            names.append(prefix + name)
    return names


def encoder_geometry(recipe: Recipe) -> VJEPA2Config:
    """Geometry of the small encoder, as a configuration of `transformers`."""
    return VJEPA2Config(
        hidden_size=recipe.width,
        num_hidden_layers=recipe.encoder_layers,
        num_attention_heads=recipe.heads,
        mlp_ratio=4.0,
        crop_size=recipe.image_size,
        patch_size=recipe.patch_size,
        tubelet_size=2,
        frames_per_clip=2,
        attn_implementation="sdpa",
    )


def predictor_geometry(recipe: Recipe) -> PredictorConfig:
    """Geometry of the small predictor: as wide as the encoder, so that it can start as identity."""
    return PredictorConfig(
        image_size=(recipe.image_size, recipe.image_size),
        patch_size=recipe.patch_size,
        embed_dim=recipe.width,
        predictor_embed_dim=recipe.width,
        depth=recipe.predictor_layers,
        num_heads=recipe.heads,
        commanded_gripper=True,
    )


def recording_config(recipe: Recipe) -> RecordingConfig:
    """What the recipe records."""
    return RecordingConfig(
        recipe.episodes,
        recipe.length,
        recipe.image_size,
        play=recipe.play,
        turning=recipe.turning,
        seed=recipe.seed,
        workspace=recipe.workspace,
        max_translation=recipe.max_translation,
    )


def run(
    recipe: Recipe,
    folder: Path,
    output: Path,
    descents: int = 5,
    device: torch.device | str = "cpu",
    name: str = "small",
) -> dict:
    """Train a model from nothing, or resume its training.

    Several processes that `distributed.processes` joined train together.

    Args:
        recipe: what is trained.
        folder: keeps the recording, checkpoints, histories and loss curves.
        output: folder of the finished model.
        descents: number of descents over true images for the figures.
        device: to train on; the one before an interruption may have been another.
        name: of the recipe.

    Returns:
        The card of the model: recipe and figures.

    Raises:
        FirstProcessError: the first of several processes failed.
        OSError: a folder cannot be written, or its disk is full.
        RecipeError: the folder holds a training with other settings, or the processes cannot share
            a batch equally.
        SimulatorError: MuJoCo cannot render.
    """
    started = time.perf_counter()
    by_first(lambda: _check(recipe, folder, output))
    dataset = collect(folder / "data", recording_config(recipe))
    collected = time.perf_counter()
    trained = recipe.episodes - recipe.held_out
    torch.manual_seed(recipe.seed)
    encoder, decoder = pretrain(
        dataset,
        Encoder(encoder_geometry(recipe)).to(device),
        recipe.pretrain,
        recipe.pretrain_loop,
        folder,
        trained,
    )
    pretrained = time.perf_counter()
    latents = encode_dataset(dataset, encoder, folder)
    torch.manual_seed(recipe.seed)
    predictor = ActionConditionedPredictor(predictor_geometry(recipe))
    start_as_identity(predictor)
    states = dataset.predictor_states(predictor.config.commanded_gripper)
    scale_inputs(predictor, states[:trained])
    predictor.to(device)
    recorded = Recorded(latents[:trained], states[:trained])
    train_predictor(
        [recorded],
        predictor,
        recipe.predictor_batch,
        recipe.predictor_loop,
        folder,
        recipe.predictor_window,
        recipe.predictor_squared,
    )
    model = WorldModel(
        encoder, predictor, name=f"vjepa2_ros {name}", parts={"decoder": decoder}
    )
    predicted = time.perf_counter()
    recordings = [recorded]
    if recipe.approaches:
        recordings = [
            replace(recorded, share=1.0 - recipe.approach_share),
            _approaches(recipe, model, folder),
        ]
    torch.manual_seed(recipe.seed)
    uncertainty = new_uncertainty(predictor, recipe.uncertainty_layers, states[:trained])
    model.parts[UNCERTAINTY] = uncertainty.to(device)
    train_uncertainty(
        recordings,
        uncertainty,
        predictor,
        recipe.predictor_batch,
        recipe.uncertainty_loop,
        folder,
        recipe.uncertainty_window,
    )
    minutes = {
        "collect": (collected - started) / 60,
        "pretrain": (pretrained - collected) / 60,
        "predictor": (predicted - pretrained) / 60,
        "uncertainty": (time.perf_counter() - predicted) / 60,
    }

    def finish() -> dict:
        card = {
            "recipe": asdict(recipe),
            "minutes": minutes,
            "readout": read_out(
                latents, dataset, slice(max(0, trained - 1000), trained), slice(trained, None)
            ),
            "prediction_relative_to_copy": error_by_step(
                predictor, latents[trained:], states[trained:], MEASURED_STEPS
            ).tolist(),
            "true_descent_m": descend(model, descents, recipe.workspace),
        }
        save_world_model(model, output, card)
        return card

    return by_first(finish)


def _approaches(recipe: Recipe, model: WorldModel, folder: Path) -> Recorded:
    """A recording of approaches to objects, in scenes of its own."""
    config = replace(
        recording_config(recipe),
        episodes=recipe.approaches,
        length=APPROACH_LENGTH,
        seed=recipe.seed + _APPROACH_SEEDS,
        approaches=True,
    )
    dataset = collect(folder / "approaches", config)
    latents = encode_dataset(dataset, model.encoder, folder / "approaches")
    states = dataset.predictor_states(model.predictor.config.commanded_gripper)
    return Recorded(latents, states, recipe.approach_share)


def _check(recipe: Recipe, folder: Path, output: Path) -> None:
    """Raise what can be raised before any work."""
    check_shares(recipe.pretrain.batch)
    check_shares(recipe.predictor_batch)
    keep_recipe(recipe, folder)
    check_folder(folder)
    check_folder(output)


def descend(model: WorldModel, episodes: int, workspace: Workspace) -> dict[str, float]:
    """Median and worst final distance [m] of greedy descents over true images (`true_descent`)."""
    simulator, reach = Simulator(SimulatorConfig(workspace=workspace)), load_task("reach")
    ends = [
        true_descent(
            simulator, draw_episode(reach, simulator, seed, TaskOptions()), model.encode
        )[-1]
        for seed in tqdm(range(episodes), desc="measure", unit="descent")
    ]
    return {"median": float(np.median(ends)), "worst": max(ends)}
