# SPDX-License-Identifier: Apache-2.0
"""Covariance matrix adaptation (CMA-ES, Hansen, arXiv 1604.00772) by the library `cmaes`."""

import numpy as np
from cmaes import CMA

from vjepa2_ros.planning.search import Search, SearchPlanner

_DEVIATION = 0.5  # of the first generation, of the cube's half side


class CovarianceMatrixAdaptation(SearchPlanner):
    """A `Planner`."""

    def search(self, search: Search) -> None:
        """See `SearchPlanner`."""
        search.evaluate(search.start[None])
        # Generations small enough that there are several, large enough to estimate from.
        population = max(4, min(32, self.evaluations // 6))
        optimiser = CMA(
            mean=search.start,
            sigma=_DEVIATION,
            bounds=np.tile([-1.0, 1.0], (search.dimensions, 1)),
            population_size=population,
            seed=int(search.random.integers(2**31)),
        )
        for _ in range((self.evaluations - 1) // population):
            points = np.array([optimiser.ask() for _ in range(population)])
            optimiser.tell(list(zip(points, search.evaluate(points).tolist(), strict=True)))
            if optimiser.should_stop():
                break
