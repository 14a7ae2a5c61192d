# SPDX-License-Identifier: Apache-2.0
"""Fits the baselines of the planner to a model's latents, on the recording of its training."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vjepa2_ros.evaluation.writable import check_file
from vjepa2_ros.planning.action_space import searched_axes
from vjepa2_ros.policies.baselines import Baselines, save_baselines
from vjepa2_ros.simulation.schedule import falls_on
from vjepa2_ros.training.cloning import cloning_loss, draw_steps, train_cloner
from vjepa2_ros.training.dataset import Dataset, RecordingError
from vjepa2_ros.training.fine_tuning import HELD_OUT_SHARE
from vjepa2_ros.training.loop import LoopConfig
from vjepa2_ros.training.predictor_training import encode_dataset
from vjepa2_ros.training.readout import ridge
from vjepa2_ros.world_model.encoder import normalise
from vjepa2_ros.world_model.poses import difference
from vjepa2_ros.world_model.world_model import WorldModel

BATCH = 64
"""Steps of motion per iteration of the cloning."""
READOUT_EPISODES = 1000
"""Most episodes that the read-out is fitted to: its matrices have to fit the memory."""
_EPISODES_AT_ONCE = 50
_HELD_OUT_STEPS = 1000


@dataclass(frozen=True)
class Training:
    """A training of `vjepa2-ros train`, whose recording is used.

    Attributes:
        dataset: the recording of E episodes.
        trained: number of its first episodes that were trained on; the others are held out.
        iterations: of the predictor's training.
        plays: whether each episode is play at the objects [E] bool; the others are random motion.
        max_translation: bound of a recorded step on each axis [m].
    """

    dataset: Dataset
    trained: int
    iterations: int
    plays: np.ndarray
    max_translation: float

    @classmethod
    def open(cls, folder: Path) -> Training:
        """Read it from its folder, and map its recording.

        Raises:
            RecordingError: the folder holds no training, or its recording cannot be used.
        """
        try:
            if (folder / "recipe.json").exists() and not (folder / "recipe.json").is_file():
                raise ValueError("recipe.json is no file")
            recipe = json.loads((folder / "recipe.json").read_text())
            # A fine-tuning may use a recording that is elsewhere.
            recording = Path(recipe.get("recording") or folder / "data")
            dataset = Dataset.open(recording)
            episodes = len(dataset.frames)
            # One that was not made in simulation does not say that there is no play in it.
            play = json.loads((recording / "dataset.json").read_text()).get("play", 0.0)
            loop = recipe["predictor_loop"] if "predictor_loop" in recipe else recipe["loop"]
            training = cls(
                dataset,
                episodes - recipe.get("held_out", max(1, episodes // HELD_OUT_SHARE)),
                loop["iterations"],
                np.array([falls_on(episode, play) for episode in range(episodes)]),
                recipe["max_translation"],
            )
            held_out = episodes - training.trained
            for name, value in (("iterations", training.iterations), ("held_out", held_out)):
                if type(value) is not int or value < 1:
                    raise ValueError(f"{name} is {value!r}")
            if not 0 < float(training.max_translation) < math.inf:
                raise ValueError(f"max_translation is {training.max_translation!r}")
        except RecordingError:
            raise
        except (OSError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise RecordingError(
                f"{folder} holds no training with a finished recording ({error!r}): give the "
                "--folder of `vjepa2-ros train`"
            ) from error
        if training.trained < 1 or training.plays[: training.trained].all():
            raise RecordingError(
                f"the recording of {folder} holds no random motion that was trained on, which the "
                "linear stand-in is fitted to"
            )
        return training


def fit_baselines(
    model: WorldModel, folder: Path, output: Path, iterations: int | None = None, seed: int = 0
) -> dict[str, float]:
    """Fit all baselines, or resume doing so, and write them to a file.

    Args:
        model: in float32, on the device to train on.
        folder: of the training of `vjepa2-ros train`: its recording is used, its latents too, if
            they are the model's. Checkpoints of the cloning are kept in its `baselines`.
        output: the file.
        iterations: of the cloning; None for as many as the predictor was trained for.
        seed: of the cloning's weights and batches.

    Returns:
        Figures on the episodes that were held out: `linear_relative_to_copy`, the error of latents
        imagined one step ahead relative to copying, on random motion; `readout_hand_m`, the median
        distance of the hand [m]; `cloning_loss`, the share of an action's bounds that it is off.

    Raises:
        RecordingError: the folder holds no training, or its recording cannot be used.
        OSError: a file cannot be written.
    """
    training = Training.open(folder)
    dataset = training.dataset
    if dataset.frames.shape[1] < 2:
        raise RecordingError(f"the recording of {folder} has episodes of a single frame")
    check_file(output)
    loop = LoopConfig(training.iterations if iterations is None else iterations, seed=seed)
    model.encoder.requires_grad_(False)
    latents = encode_dataset(dataset, model.encoder, folder, model.crop_aspect)
    states = np.array(dataset.predictor_states(model.predictor.config.commanded_gripper))
    seen, held = slice(training.trained), slice(training.trained, None)
    random_seen, random_held = (
        np.flatnonzero(~training.plays[part]) + start
        for part, start in ((seen, 0), (held, training.trained))
    )

    torch.manual_seed(seed)
    baselines = Baselines(model.predictor.config)
    with torch.no_grad():
        baselines.linear.weight.copy_(linear_map(latents, states, random_seen).T)
        last = slice(max(0, training.trained - READOUT_EPISODES), training.trained)
        weights, offset = _read_out(latents[last], states[last])
        baselines.readout.weight.copy_(weights.T)
        baselines.readout.bias.copy_(offset)
    bounds = torch.tensor([training.max_translation] * 3 + [1.0])
    baselines.cloner.to(model.device)
    work = folder / "baselines" / f"{model.fingerprint}-{loop.iterations}-{seed}"
    train_cloner(baselines.cloner, latents[seen], states[seen], bounds, BATCH, loop, work)
    save_baselines(baselines, model, output)

    with torch.no_grad():
        hands = baselines.readout(_features(latents[held]))[:, :3]
        miss = hands - torch.from_numpy(states[held]).flatten(0, 1)[:, :3]
        steps = draw_steps(
            latents[held], states[held], bounds, _HELD_OUT_STEPS, np.random.default_rng(seed)
        )
        return {
            "linear_relative_to_copy": _relative_to_copy(baselines, latents, states, random_held),
            "readout_hand_m": float(miss.norm(dim=1).median()),
            "cloning_loss": float(cloning_loss(baselines.cloner, steps)),
        }


def linear_map(latents: np.ndarray, states: np.ndarray, episodes: np.ndarray) -> Tensor:
    """Least squares of the changes of latents on those of x, y, z, gripper, one step apart.

    Args:
        latents: [E, T, N, D].
        states: measured [E, T, 7].
        episodes: numbers of those that are used.

    Returns:
        Map [4, N * D] float32 of the change [4] to that of a latent.
    """
    gram, moment = torch.zeros(4, 4), torch.zeros(4, latents[0, 0].size)
    for first in range(0, len(episodes), _EPISODES_AT_ONCE):
        moves, present, after = _random_steps(
            latents, states, episodes[first : first + _EPISODES_AT_ONCE]
        )
        gram += moves.T @ moves
        moment += moves.T @ (after - present).flatten(1)
    # An axis that never moved has no effect.
    return torch.linalg.lstsq(gram, moment, driver="gelsd").solution


def _random_steps(
    latents: np.ndarray, states: np.ndarray, episodes: np.ndarray
) -> tuple[Tensor, Tensor, Tensor]:
    """All steps of some episodes: changes [M, 4], latents before and after [M, N, D]."""
    poses = torch.from_numpy(states[episodes])
    seen = torch.tensor(latents[episodes], dtype=torch.float32)
    moves = searched_axes(difference(poses[:, :-1], poses[:, 1:]))
    return moves.flatten(0, 1), seen[:, :-1].flatten(0, 1), seen[:, 1:].flatten(0, 1)


def _relative_to_copy(
    baselines: Baselines, latents: np.ndarray, states: np.ndarray, episodes: np.ndarray
) -> float:
    """L1 error of the linear stand-in one step ahead, relative to copying the present latent."""
    moves, present, after = _random_steps(latents, states, episodes)
    imagined = normalise(present + baselines.linear(moves).view_as(present))
    return float((imagined - after).abs().mean() / (present - after).abs().mean())


def _features(latents: np.ndarray) -> Tensor:
    """Latents [E, T, N, D] as rows [E * T, N * D] float32."""
    return torch.tensor(latents, dtype=torch.float32).flatten(2).flatten(0, 1)


def _read_out(latents: np.ndarray, states: np.ndarray) -> tuple[Tensor, Tensor]:
    """Ridge regression of x, y, z, closedness on latents: weights [N * D, 4] and offset [4]."""
    poses = searched_axes(torch.from_numpy(states)).flatten(0, 1)
    return ridge(_features(latents), poses)
