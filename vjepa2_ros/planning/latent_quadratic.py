# SPDX-License-Identifier: Apache-2.0
"""Search by a quadratic surrogate of the imagined latents.

As `quadratic`, but not the energies are fitted: every component of the imagined latents is, as a
quadratic of the action. An evaluation then teaches as many numbers as a latent has, instead of
one, and what the surrogate has to describe is smooth, while an energy has the edges of its
absolute values. What weighted least squares predict at a point is a weighted sum of the latents
imagined so far, so that the hundreds of candidates of a fit cost what a few evaluations do. What
is returned was asked about exactly: the surrogate proposes, the world model decides.
"""

import numpy as np
import torch
from scipy.stats import qmc
from torch import Tensor

from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.planning.planner import LatentObjective, Plan, Search, cube, numpy_generator
from vjepa2_ros.planning.quadratic import least_squares, terms

_FIRST = 0.35  # share of the evaluations that are spread over the whole cube
_ROUNDS = 8  # fits
_SHRINK = 0.6  # of the trust region from round to round
_POINTS_PER_TERM = 8  # at most in a round: more teach the surrogate nothing
_NEIGHBOURHOOD = 1.5  # radius within which points weigh, in radii of the trust region
_CANDIDATES = 64  # that the surrogate is asked about at once
_STAGES = 4  # ever nearer to the best of them
_NARROW = 0.4
_COMPONENTS = 16384  # of a latent at most: a mean of so many tells where the least of all is


class LatentQuadraticSurrogate:
    """A `Planner` for few dimensions; its objective has to be a `LatentObjective`.

    It stops early where the surrogate knows all it can use: with x, y, z and gripper at a horizon
    of 1 after 1,080.
    """

    def __init__(self, evaluations: int):
        if evaluations < _ROUNDS + 4:
            raise ValueError(f"evaluations must be at least {_ROUNDS + 4}, got {evaluations}")
        self.evaluations = evaluations

    def plan(
        self,
        objective: LatentObjective,
        space: ActionSpace,
        generator: torch.Generator,
        previous: Tensor | None = None,
    ) -> Plan:
        """Search as `Planner.plan`."""
        recorded = _Recorded(objective)
        search = Search(recorded, space)
        spread = qmc.Sobol(space.dimensions, seed=numpy_generator(generator))
        around = cube(spread, _CANDIDATES)
        most = _POINTS_PER_TERM * terms(np.zeros((1, space.dimensions))).size
        search.begin(spread, min(most, int(self.evaluations * _FIRST)), previous)
        radius = 1.0
        for left in range(_ROUNDS, 0, -1):
            centre = search.best
            coefficients = least_squares(search.points - centre, _NEIGHBOURHOOD * radius)
            radius *= _SHRINK
            lower = np.maximum(-1.0, centre - 2 * radius)
            upper = np.minimum(1.0, centre + 2 * radius)
            proposed = centre
            for stage in range(_STAGES):
                reach = 2 * radius * _NARROW**stage
                candidates = np.vstack([proposed, proposed + reach * around]).clip(lower, upper)
                candidates = search.nearest(candidates)
                energies = recorded.predict(terms(candidates - centre) @ coefficients)
                proposed = candidates[energies.argmin()]
            count = min(most, (self.evaluations - len(search.points)) // left)
            nearby = proposed + 0.5 * radius * cube(spread, count - 1)
            search.evaluate(np.vstack([proposed, nearby]))
        return search.plan()


class _Recorded:
    """An objective that keeps what was imagined, of large latents a random part."""

    def __init__(self, objective: LatentObjective):
        self._objective = objective
        self._part: Tensor | None = None
        self._differences: list[Tensor] = []

    def __call__(self, actions: Tensor) -> Tensor:
        differences = self._objective.differences(actions)
        energies = self._objective.energies(differences).cpu()
        count = differences.shape[1]
        if count > _COMPONENTS:
            if self._part is None:
                # The same part each time, so that a seed still decides the plan.
                order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
                self._part = order[:_COMPONENTS].to(differences.device)
            differences = differences[:, self._part]
        self._differences.append(differences)
        return energies

    def predict(self, weights: np.ndarray) -> np.ndarray:
        """Energies [C] of sums of what was imagined [S], with these weights [C, S]."""
        if len(self._differences) > 1:
            self._differences = [torch.cat(self._differences)]
        (imagined,) = self._differences
        mixed = torch.from_numpy(weights).to(imagined) @ imagined
        return self._objective.energies(mixed).cpu().numpy()
