# SPDX-License-Identifier: Apache-2.0
"""Model predictive path integral control (Williams et al., arXiv 1707.02342) on one decision.

The mean moves to the average of the candidates, weighted by exp(-energy / temperature). Energies of
latents have no natural scale, so that the temperature is set from the candidates themselves: the
distance of the best to the sixth. pytorch-mppi was left aside: it wants dynamics and cost step by
step, where ours are of whole sequences.
"""

import numpy as np
import torch
from torch import Tensor

from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.planning.planner import Objective, Plan, Search, numpy_generator

_ITERATIONS = 4
_DEVIATION = 0.6  # of the first draws, of the cube's half side; halved with each iteration
_EFFECTIVE = 6


class ModelPredictivePathIntegral:
    """A `Planner`."""

    def __init__(self, evaluations: int):
        if evaluations < 2 * _ITERATIONS + 1:
            raise ValueError(f"evaluations must be at least {2 * _ITERATIONS + 1}")
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
        random = numpy_generator(generator)
        mean = search.start(previous)
        count = (self.evaluations - 1) // _ITERATIONS
        for iteration in range(_ITERATIONS):
            draws = random.normal(size=(count - 1, space.dimensions))
            points = np.vstack([mean, mean + draws * _DEVIATION * 0.5**iteration]).clip(-1.0, 1.0)
            energies = search.evaluate(points)
            excess = energies - energies.min()
            temperature = max(np.sort(excess)[min(_EFFECTIVE, count) - 1], 1e-9)
            weights = np.exp(-excess / temperature)
            mean = weights @ points / weights.sum()
        search.evaluate(mean[None])
        return search.plan()
