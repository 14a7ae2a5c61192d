# SPDX-License-Identifier: Apache-2.0
"""Errors of the predictor by what happens: nothing near, an object near, pushed, held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vjepa2_ros.simulation.simulator import GRASP_HEIGHTS, REST_HEIGHTS, Simulator
from vjepa2_ros.tasks.truth import Truth
from vjepa2_ros.training.play import Play
from vjepa2_ros.world_model.poses import difference
from vjepa2_ros.world_model.world_model import WorldModel

STEPS = 3
"""Steps that are predicted."""
LENGTH = 12
"""Frames of an episode."""
_NEAR = 0.08  # distance of hand and grasp that counts as near [m]
_MOVED = 0.005  # way of an object that counts as pushed [m]


class Situation(Enum):
    """What happens between two frames; the values are for people."""

    FREE = "free space"
    NEAR = "near an object"
    PUSHED = "an object is pushed"
    GRASPED = "grasped or released"
    HELD = "an object is held"


@dataclass(frozen=True)
class Episode:
    """Play in one scene that no training saw.

    Attributes:
        images: uint8 RGB [T, size, size, 3].
        states: as the predictor takes them, float32 [T, 7].
        truths: of the same moments.
    """

    images: np.ndarray
    states: np.ndarray
    truths: list[Truth]


def situation(before: Truth, after: Truth) -> Situation:
    """What happened from one moment to the next."""
    if (before.held != after.held).any():
        return Situation.GRASPED
    if before.held.any():
        return Situation.HELD
    way = np.linalg.norm(after.objects - before.objects, axis=1)
    if way.max() > _MOVED:
        return Situation.PUSHED
    lift = np.array(GRASP_HEIGHTS) - REST_HEIGHTS
    grasps = before.objects + np.stack([np.zeros(2), np.zeros(2), lift], axis=1)
    hands = np.stack([before.hand, after.hand])
    if np.linalg.norm(hands[:, None] - grasps, axis=2).min() < _NEAR:
        return Situation.NEAR
    return Situation.FREE


def play_episodes(
    simulator: Simulator, scenes: Sequence[int], max_translation: float, commanded_gripper: bool
) -> Iterator[Episode]:
    """Play at the objects, as in the recordings, in the given scenes."""
    for scene in tqdm(scenes, desc="play", unit="episode"):
        simulator.reset(scene)
        turning = scene % 2 == 1
        player = Play(simulator, np.random.default_rng([scene, 3]), max_translation, turning)
        player.begin()
        images, states, truths = [], [], []
        steps = player.steps()
        while True:
            images.append(simulator.render())
            state = simulator.state()
            if commanded_gripper:
                state[6] = simulator.commanded_closedness
            states.append(state)
            truths.append(Truth.of(simulator))
            if len(images) == LENGTH:
                break
            next(steps)
        yield Episode(np.stack(images), np.array(states, np.float32), truths)


def errors_by_situation(
    models: dict[str, WorldModel], episodes: Sequence[Episode]
) -> dict[str, dict[str, list[float]]]:
    """Mean L1 error of latents predicted 1 to `STEPS` steps ahead, by what happens in the last one.

    Args:
        models: what predicts, by name; all encode alike.
        episodes: of play.

    Returns:
        For each situation: "steps" (how many there were) and "copied" (the error of copying the
        present latent), and for each model its errors relative to that, [`STEPS`] each.
    """
    first = next(iter(models.values()))
    sums: dict[str, dict[str, np.ndarray]] = {}
    for episode in tqdm(episodes, desc="predict", unit="episode"):
        latents = torch.stack([first.encode(image) for image in episode.images])
        states = torch.from_numpy(episode.states)
        for start in range(LENGTH - 1):
            for ahead in range(1, min(STEPS, LENGTH - 1 - start) + 1):
                end = start + ahead
                name = situation(episode.truths[end - 1], episode.truths[end]).value
                row = sums.setdefault(
                    name, {key: np.zeros(STEPS) for key in ("steps", "copied", *models)}
                )
                row["steps"][ahead - 1] += 1
                row["copied"][ahead - 1] += _error(latents[start], latents[end])
                actions = difference(states[start:end], states[start + 1 : end + 1])[None]
                for key, model in models.items():
                    predicted = model.rollout(latents[start], states[start], actions)[0]
                    row[key][ahead - 1] += _error(predicted, latents[end])
    return {name: _relative(row) for name, row in sums.items()}


def _relative(row: dict[str, np.ndarray]) -> dict[str, list[float]]:
    steps, copied = row.pop("steps"), row.pop("copied")
    some = np.maximum(steps, 1)
    return {
        "steps": steps.tolist(),
        "copied": (copied / some).tolist(),
        **{key: (error / np.maximum(copied, 1e-9)).tolist() for key, error in row.items()},
    }


def _error(predicted: Tensor, true: Tensor) -> float:
    return float((predicted - true).abs().mean())
