# SPDX-License-Identifier: Apache-2.0
"""Model predictive path integral control (Williams et al., arXiv 1707.02342) on one decision.

The mean moves to the average of the candidates, weighted by exp(-energy / temperature). Energies of
latents have no natural scale, so the temperature is set from the candidates themselves: the
difference between the best and the sixth. pytorch-mppi is not used: it takes dynamics and cost step
by step, and this objective rates whole sequences.
"""

import numpy as np

from vjepa2_ros.planning.search import Search, SearchPlanner

_ITERATIONS = 4
_DEVIATION = 0.6  # of the first draws, of the cube's half side; halved with each iteration
_EFFECTIVE = 6


class ModelPredictivePathIntegral(SearchPlanner):
    """A `Planner`."""

    def search(self, search: Search) -> None:
        """See `SearchPlanner`."""
        mean = search.start
        count = (self.evaluations - 1) // _ITERATIONS
        for iteration in range(_ITERATIONS):
            draws = search.random.normal(size=(count - 1, search.dimensions))
            points = np.vstack([mean, mean + draws * _DEVIATION * 0.5**iteration]).clip(-1.0, 1.0)
            energies = search.evaluate(points)
            excess = energies - energies.min()
            temperature = max(np.sort(excess)[min(_EFFECTIVE, count) - 1], 1e-9)
            weights = np.exp(-excess / temperature)
            mean = weights @ points / weights.sum()
        search.evaluate(mean[None])
