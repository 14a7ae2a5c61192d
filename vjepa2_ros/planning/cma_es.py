# SPDX-License-Identifier: Apache-2.0
"""Covariance matrix adaptation (CMA-ES, Hansen, arXiv 1604.00772) by the library `cmaes`."""

import numpy as np
import torch
from cmaes import CMA
from torch import Tensor

from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.planning.planner import Objective, Plan, Search, numpy_generator

_DEVIATION = 0.5  # of the first generation, of the cube's half side


class CovarianceMatrixAdaptation:
    """A `Planner`."""

    def __init__(self, evaluations: int):
        if evaluations < 5:
            raise ValueError(f"evaluations must be at least 5, got {evaluations}")
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
        start = search.start(previous)
        search.evaluate(start[None])
        # Generations small enough that there are several, large enough to estimate from.
        population = max(4, min(32, self.evaluations // 6))
        optimiser = CMA(
            mean=start,
            sigma=_DEVIATION,
            bounds=np.tile([-1.0, 1.0], (space.dimensions, 1)),
            population_size=population,
            seed=int(numpy_generator(generator).integers(2**31)),
        )
        for _ in range((self.evaluations - 1) // population):
            points = np.array([optimiser.ask() for _ in range(population)])
            optimiser.tell(list(zip(points, search.evaluate(points).tolist(), strict=True)))
            if optimiser.should_stop():
                break
        return search.plan()
