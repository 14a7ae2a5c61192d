# SPDX-License-Identifier: Apache-2.0
"""Cross-entropy method that keeps every evaluation, after iCEM (Pinneri et al., arXiv 2008.06389).

As there, elites are kept from iteration to iteration, the mean is one of the candidates, and the
best candidate is the plan instead of the mean. The objective has no noise, so all energies compete
for the elites. Draws are of low discrepancy (scrambled Sobol) instead of coloured noise, which
helps long horizons only; elites are weighted by rank, as in CMA-ES. pytorch-icem is not used: it takes
dynamics and cost step by step, and this objective rates whole sequences.
"""

import numpy as np
from scipy.stats import norm

from vjepa2_ros.planning.search import Search, SearchPlanner

_FIRST = 0.4  # share of the evaluations that are spread over the whole cube
_ITERATIONS = 3  # after it
_ELITES = 6
_LEAST_DEVIATION = 0.03  # of the cube's half side


class ImprovedCrossEntropyMethod(SearchPlanner):
    """A `Planner`."""

    def search(self, search: Search) -> None:
        """See `SearchPlanner`."""
        search.begin(int(self.evaluations * _FIRST))
        for left in range(_ITERATIONS, 0, -1):
            elites = search.elites(_ELITES)
            weights = np.log(len(elites) + 0.5) - np.log(np.arange(1, len(elites) + 1))
            weights /= weights.sum()
            mean = weights @ elites
            deviation = np.sqrt(weights @ (elites - mean) ** 2) + _LEAST_DEVIATION
            count = (self.evaluations - len(search.points)) // left
            draws = norm.ppf((search.spread(count - 1) + 1.0) / 2.0)
            search.evaluate(np.vstack([mean, mean + draws * deviation]))
