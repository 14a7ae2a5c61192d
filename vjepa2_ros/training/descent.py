# SPDX-License-Identifier: Apache-2.0
"""Greedy descent over true next images: what the representation alone is worth, no predictor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from vjepa2_ros.settings.planning import ActionSettings
from vjepa2_ros.simulation.simulator import DOWN, Simulator
from vjepa2_ros.tasks.task import Episode


def true_descent(
    simulator: Simulator,
    episode: Episode,
    encode: Callable[[np.ndarray], Tensor],
    candidates: int = 40,
    steps: int = 8,
    bound: float = ActionSettings().max_translation,
) -> list[float]:
    """Distances of a reach to its goal [m], at the start and after each step.

    At each step the hand is placed at random positions, and stays at the one whose latent is
    nearest to the goal's. The distance that remains is due to the representation alone.

    Args:
        simulator: is put to the episode's start.
        episode: of the task reach.
        encode: image uint8 RGB to latent [N, D].
        candidates: positions tried in each step.
        steps: number of steps.
        bound: of a step on each axis [m].
    """
    random = np.random.default_rng([episode.seed, 2])
    simulator.restore(episode.start)
    (picture,) = episode.subgoals
    goal, size = encode(picture.image), len(picture.image)
    workspace = simulator.config.workspace

    def distance() -> float:
        return float(np.linalg.norm(simulator.pose()[0] - episode.target))

    distances = [distance()]
    for _ in range(steps):
        here = simulator.pose()[0]
        places = here + random.uniform(-bound, bound, (candidates, 3))
        places = np.vstack([here, np.clip(places, workspace.lower, workspace.upper)])
        energies = []
        for place in places:
            simulator.place(place, DOWN, 0.0)
            energies.append(float((encode(simulator.render(size)) - goal).abs().mean()))
        simulator.place(places[int(np.argmin(energies))], DOWN, 0.0)
        distances.append(distance())
    return distances
