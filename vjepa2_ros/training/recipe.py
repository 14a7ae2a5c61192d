# SPDX-License-Identifier: Apache-2.0
"""The whole training of the shipped model: data, encoder, predictor, figures, model folder."""

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import VJEPA2Config

from vjepa2_ros.evaluation.reach import ReachEpisode, true_descent
from vjepa2_ros.simulation.simulator import Simulator
from vjepa2_ros.training.dataset import collect
from vjepa2_ros.training.loop import LoopConfig
from vjepa2_ros.training.predictor_training import encode_dataset, error_by_step, train_predictor
from vjepa2_ros.training.pretrain import PretrainConfig, pretrain
from vjepa2_ros.training.readout import read_out
from vjepa2_ros.world_model.checkpoint import save_world_model
from vjepa2_ros.world_model.encoder import Encoder
from vjepa2_ros.world_model.predictor import ActionConditionedPredictor, PredictorConfig
from vjepa2_ros.world_model.world_model import WorldModel


class RecipeError(ValueError):
    """A recipe that makes no sense, or another one than that of its folder; the text says why."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what the model becomes.

    Attributes:
        episodes, length: size of the recording.
        held_out: episodes at its end that no training step sees, for the read-outs.
        image_size, patch_size: of the encoder [px].
        width, heads: of encoder and predictor.
        encoder_layers, predictor_layers: depths.
        predictor_batch: windows of three frames in a step.
        seed: of data, weights and batches.

    Raises:
        RecipeError: no episode is left to train on, or none to measure on.
    """

    episodes: int = 4000
    length: int = 10
    held_out: int = 200
    image_size: int = 128
    patch_size: int = 16
    width: int = 128
    heads: int = 2
    encoder_layers: int = 6
    predictor_layers: int = 4
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    pretrain_loop: LoopConfig = field(default_factory=lambda: LoopConfig(2400))
    predictor_batch: int = 64
    predictor_loop: LoopConfig = field(default_factory=lambda: LoopConfig(2400))
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.held_out < self.episodes:
            raise RecipeError(
                f"of {self.episodes} episodes {self.held_out} would be held out: at least one must "
                "be, and at least one be left"
            )


def keep_recipe(recipe: Recipe, folder: Path) -> None:
    """Write `recipe.json` into `folder`, or make sure that the one there says the same.

    Raises:
        RecipeError: it says something else, or cannot be read.
    """
    path = folder / "recipe.json"
    # Compared as what a file can hold: tuples become lists.
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
    """Names of the settings that differ, those of a part with its name in front."""
    names = []
    for name in dict.fromkeys((*wanted, *found)):
        mine, other = wanted.get(name), found.get(name)
        if isinstance(mine, dict) and isinstance(other, dict):
            names += _differing(mine, other, f"{prefix}{name}.")
        elif mine != other:
            names.append(prefix + name)
    return names


def encoder_geometry(recipe: Recipe) -> VJEPA2Config:
    """Geometry of the small encoder in the terms of `transformers`."""
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
    """Geometry of the small predictor: as wide as the encoder, so that it can start as a copy."""
    return PredictorConfig(
        image_size=(recipe.image_size, recipe.image_size),
        patch_size=recipe.patch_size,
        embed_dim=recipe.width,
        predictor_embed_dim=recipe.width,
        depth=recipe.predictor_layers,
        num_heads=recipe.heads,
    )


def run(recipe: Recipe, folder: Path, output: Path, descents: int = 20) -> dict:
    """Train in `folder`, resuming what is there, and write the model to `output`; returns its card.

    The folder keeps the recording, checkpoints, histories and loss curves. The figures count so
    many `descents` over true pictures.

    Raises:
        RecipeError: the folder holds what another recipe made.
    """
    started = time.perf_counter()
    keep_recipe(recipe, folder)
    dataset = collect(
        folder / "data", recipe.episodes, recipe.length, recipe.image_size, recipe.seed
    )
    collected = time.perf_counter()
    trained = recipe.episodes - recipe.held_out
    torch.manual_seed(recipe.seed)
    encoder = pretrain(
        dataset,
        Encoder(encoder_geometry(recipe)),
        recipe.pretrain,
        recipe.pretrain_loop,
        folder,
        trained,
    )
    pretrained = time.perf_counter()
    latents = encode_dataset(dataset, encoder, folder)
    torch.manual_seed(recipe.seed)
    predictor = ActionConditionedPredictor(predictor_geometry(recipe))
    train_predictor(
        dataset, latents, predictor, recipe.predictor_batch, recipe.predictor_loop, folder, trained
    )
    model = WorldModel(encoder, predictor, name="vjepa2_ros small")
    card = {
        "recipe": asdict(recipe),
        "minutes": {
            "collect": (collected - started) / 60,
            "pretrain": (pretrained - collected) / 60,
            "predictor": (time.perf_counter() - pretrained) / 60,
        },
        "readout": read_out(
            latents, dataset, slice(max(0, trained - 1000), trained), slice(trained, None)
        ),
        "imagined_relative_to_copy": error_by_step(
            predictor, latents[trained:], dataset.states[trained:], steps=4
        ).tolist(),
        "true_descent_m": descend(model, descents),
    }
    save_world_model(model, output, card)
    return card


def descend(model: WorldModel, episodes: int) -> dict[str, float]:
    """Median and worst end [m] of greedy descents over true pictures, see `true_descent`."""
    simulator = Simulator()
    ends = [
        true_descent(simulator, ReachEpisode.sample(seed, simulator), model.encode)[-1]
        for seed in range(episodes)
    ]
    return {"median": float(np.median(ends)), "worst": max(ends)}
