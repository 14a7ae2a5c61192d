# SPDX-License-Identifier: Apache-2.0
"""Whether predictions tell the approaches that end in a grasp from those that overturn the object.

Where contact decides, plans differ by a centimetre and end differently. A mean error of prediction
hardly shows whether that is foreseen, since an object is one or two patches of many.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from scipy.stats import mannwhitneyu
from torch import Tensor
from tqdm import tqdm

from vjepa2_ros.planning.objective import LatentDistance
from vjepa2_ros.policies.true_dynamics import TrueDynamics
from vjepa2_ros.simulation.simulator import DOWN, GRASP_HEIGHTS, OBJECTS, Simulator
from vjepa2_ros.tasks.outcome import UPRIGHT
from vjepa2_ros.world_model.world_model import WorldModel

STARTS = ((0.12, 0.10), (0.12, 0.05), (0.05, 0.12))
"""Where approaches begin: distance beside, and height above, the grasp [m]."""
_DIRECTIONS = 8
_STEPS = 2  # of the hand, before the fingers close


def approaches(
    models: Mapping[str, WorldModel],
    simulator: Simulator,
    scenes: Sequence[int],
    cost: str,
    variance_weight: float = 0.0,
) -> dict[str, dict[str, float]]:
    """How well energies tell which approaches end in a grasp.

    The open hand moves straight to the grasp in two actions, from above and from the sides, and the
    fingers close. It succeeds if they hold the object and it stands.

    Args:
        models: that predict, by name; all encode alike.
        simulator: of the cell.
        scenes: seeds.
        cost: "l1" or "l2".
        variance_weight: of the variance in the energies, see `LatentDistance`.

    Returns:
        For each object: "approaches", their number; "succeed", the share of them; "true" and the
        names of the models: probability that an approach that succeeds has less energy, to the
        picture of the grasp, than one that fails (0.5: by chance; NaN: all end alike).
    """
    model = next(iter(models.values()))
    truth = TrueDynamics(model, simulator)
    found = {}
    rating = partial(LatentDistance, cost=cost, variance_weight=variance_weight)
    for index, name in enumerate(OBJECTS):
        succeeded: list[bool] = []
        energies: dict[str, list[float]] = {key: [] for key in ("true", *models)}
        for scene in tqdm(scenes, desc=f"approaches to the {name}", unit="scene"):
            simulator.reset(scene)
            place = simulator.object_positions()[index]
            grasp = np.append(place[:2], GRASP_HEIGHTS[index])
            goal = model.encode(_picture(simulator, grasp))
            for actions in _starts(simulator, scene, grasp):
                latent = model.encode(simulator.render())
                state = torch.from_numpy(simulator.state())
                state[6] = 0.0
                for key, other in models.items():
                    energies[key].append(float(rating(other, latent, state, goal)(actions)[0]))
                # Of the copy, which is left where the approach ends.
                energies["true"].append(float(rating(truth, latent, state, goal)(actions)[0]))
                end = truth.copy
                succeeded.append(
                    bool(end.held()[index] and end.object_tilts()[index] <= UPRIGHT)
                )
        good = np.array(succeeded)
        found[name] = {
            "approaches": float(len(good)),
            "succeed": float(good.mean()) if len(good) else np.nan,
            **{key: _ranked(np.array(values), good) for key, values in energies.items()},
        }
    return found


def _picture(simulator: Simulator, grasp: np.ndarray) -> np.ndarray:
    """The object in the fingers, where it stands; the scene is as before."""
    before = simulator.snapshot()
    simulator.place(grasp, DOWN, 0.0)
    simulator.set_target(grasp, DOWN.as_quat(), 1.0)
    simulator.advance(1.0)
    picture = simulator.render()
    simulator.restore(before)
    return picture


def _starts(simulator: Simulator, scene: int, grasp: np.ndarray) -> Iterator[Tensor]:
    """Put the hand where each approach begins, and yield its actions [1, 3, 7]."""
    workspace = simulator.config.workspace
    for beside, above in STARTS:
        for angle in 2 * np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS:
            offset = beside * np.cos(angle), beside * np.sin(angle), above
            start = grasp + offset
            if not ((start >= workspace.lower) & (start <= workspace.upper)).all():
                continue
            simulator.reset(scene)
            simulator.place(start, DOWN, 0.0)
            actions = torch.zeros(1, _STEPS + 1, 7)
            actions[:, :_STEPS, :3] = torch.from_numpy(grasp - start) / _STEPS
            actions[:, _STEPS, 6] = 1.0
            yield actions


def _ranked(energies: np.ndarray, good: np.ndarray) -> float:
    """Area under the ROC curve of energies, for which less should be good."""
    if good.all() or not good.any():
        return float("nan")
    larger = mannwhitneyu(energies[~good], energies[good]).statistic
    return float(larger / (good.sum() * (~good).sum()))
