# SPDX-License-Identifier: Apache-2.0
"""Cross-entropy method that throws nothing away, after iCEM (Pinneri et al., arXiv 2008.06389).

From there: elites are kept from iteration to iteration, the mean is one of the candidates, and the
best candidate is the plan instead of the mean. The objective has no noise, so that every energy
ever asked for competes for the elites. Draws are low-discrepancy (scrambled Sobol) instead of
coloured noise, which helps long horizons only; elites count by rank, as in CMA-ES. pytorch-icem
was left aside: it wants dynamics and cost step by step, where ours are of whole sequences.
"""

import numpy as np
import torch
from scipy.stats import norm, qmc
from torch import Tensor

from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.planning.planner import Objective, Plan, Search, cube, numpy_generator

_FIRST = 0.4  # share of the evaluations that are spread over the whole cube
_ITERATIONS = 3  # after it
_ELITES = 6
_LEAST_DEVIATION = 0.03  # of the cube's half side


class ImprovedCrossEntropyMethod:
    """A `Planner`."""

    def __init__(self, evaluations: int):
        if evaluations < 4 * (_ITERATIONS + 1):
            raise ValueError(
                f"evaluations must be at least {4 * (_ITERATIONS + 1)}, got {evaluations}"
            )
        self.evaluations = evaluations

    def plan(
        self,
        objective: Objective,
        space: ActionSpace,
        generator: torch.Generator,
        previous: Tensor | None = None,
    ) -> Plan:
        """Search as `Planner.plan`."""
        search = Search(objective, space)
        spread = qmc.Sobol(space.dimensions, seed=numpy_generator(generator))
        search.begin(spread, int(self.evaluations * _FIRST), previous)
        for left in range(_ITERATIONS, 0, -1):
            elites = search.elites(_ELITES)
            weights = np.log(len(elites) + 0.5) - np.log(np.arange(1, len(elites) + 1))
            weights /= weights.sum()
            mean = weights @ elites
            deviation = np.sqrt(weights @ (elites - mean) ** 2) + _LEAST_DEVIATION
            count = (self.evaluations - len(search.points)) // left
            draws = norm.ppf((cube(spread, count - 1) + 1.0) / 2.0)
            search.evaluate(np.vstack([mean, mean + draws * deviation]))
        return search.plan()
