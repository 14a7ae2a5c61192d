# SPDX-License-Identifier: Apache-2.0
"""Search by a quadratic surrogate of the predicted latents.

As `quadratic`, but instead of the energies every component of the predicted latents is fitted, as a
quadratic of the action. One evaluation then gives as many numbers as a latent has, instead of one,
and what the surrogate has to describe is smooth, while an energy is not differentiable where a
difference changes its sign. The estimate of weighted least squares at a point is a weighted sum of
the latents predicted so far, so that hundreds of candidates of a fit cost as much as a few
evaluations. The plan was evaluated exactly: the surrogate proposes, the world model decides.
"""

import numpy as np
import torch
from torch import Tensor

from vjepa2_ros.planning.objective import LatentDistance
from vjepa2_ros.planning.planner import Objective
from vjepa2_ros.planning.quadratic import least_squares, terms
from vjepa2_ros.planning.search import Search, SearchPlanner

_FIRST = 0.35  # share of the evaluations that are spread over the whole cube
_ROUNDS = 8  # fits
_SHRINK = 0.6  # of the trust region from round to round
_POINTS_PER_TERM = 8  # at most in a round: more do not improve the fit
_NEIGHBOURHOOD = 1.5  # radius within which points weigh, in radii of the trust region
_CANDIDATES = 64  # of the surrogate at once
_STAGES = 4  # each nearer to the best of the one before
_NARROW = 0.4
_COMPONENTS = 2048  # of a latent at most: the mean of this many has its minimum at the same place


class LatentQuadraticSurrogate(SearchPlanner):
    """A `Planner` for few dimensions.

    It stops before its budget is spent where more points do not improve the fit: with x, y, z and
    gripper at a horizon of 1 after 1,080.
    """

    def search(self, search: Search) -> None:
        """See `SearchPlanner`."""
        search.objective = recorded = _Recorded(search.objective)
        around = search.spread(_CANDIDATES)
        most = _POINTS_PER_TERM * terms(np.zeros((1, search.dimensions))).size
        search.begin(min(most, int(self.evaluations * _FIRST)))
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
            nearby = proposed + 0.5 * radius * search.spread(count - 1)
            search.evaluate(np.vstack([proposed, nearby]))


class _Recorded:
    """An objective that keeps the predicted differences, of large latents a random part.

    The few components of the robot's state, at the end, are always kept: a random part of them
    would be other energies.
    """

    def __init__(self, objective: Objective):
        self._objective = objective
        self._part: Tensor | None = None
        self._differences: list[Tensor] = []

    def __call__(self, actions: Tensor) -> Tensor:
        differences = self._objective.differences(actions)
        energies = self._objective.energies(differences).cpu()
        objective = self._objective
        state = objective.state_components if isinstance(objective, LatentDistance) else 0
        count = differences.shape[1] - state
        if count > _COMPONENTS:
            if self._part is None:
                # The same part each time, so that a seed still decides the plan.
                order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
                self._part = order[:_COMPONENTS].to(differences.device)
            latent = differences[:, self._part]
            if state:
                # Energies are means over all components, absolute or squared.
                kept = _COMPONENTS + state
                scales = kept * count / (_COMPONENTS * (count + state)), kept / (count + state)
                assert isinstance(objective, LatentDistance)
                if objective.cost == "l2":
                    scales = scales[0] ** 0.5, scales[1] ** 0.5
                latent = torch.cat([latent * scales[0], differences[:, count:] * scales[1]], dim=1)
            differences = latent
        self._differences.append(differences)
        return energies

    def differences(self, actions: Tensor) -> Tensor:
        return self._objective.differences(actions)

    def energies(self, differences: Tensor) -> Tensor:
        return self._objective.energies(differences)

    def predict(self, weights: np.ndarray) -> np.ndarray:
        """Energies [C] of weighted sums of the S differences kept, with weights [C, S]."""
        if len(self._differences) > 1:
            self._differences = [torch.cat(self._differences)]
        (kept,) = self._differences
        mixed = torch.from_numpy(weights).to(kept) @ kept
        return self._objective.energies(mixed).cpu().numpy()
