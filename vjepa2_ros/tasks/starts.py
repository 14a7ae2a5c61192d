# SPDX-License-Identifier: Apache-2.0
"""Where tasks with objects start, and where objects may go."""

from __future__ import annotations

import numpy as np

from vjepa2_ros.simulation.simulator import DOWN, OBJECTS, Simulator, Snapshot
from vjepa2_ros.tasks.task import TeachingError

START_HEIGHT = 0.16
"""Least height of the open hand at the start, above everything on the table [m]."""
WAY = 0.15, 0.35
"""Least and largest way of an object from its place to the target [m]."""
CLEARANCE = 0.15
"""Least distance of that way from the other object: the hand is 20 cm wide [m]."""
_TRIES = 1000


def start_free(
    simulator: Simulator, random: np.random.Generator, closedness: float = 0.0
) -> Snapshot:
    """Put the hand somewhere above the objects, open unless a closedness is given."""
    workspace = simulator.config.workspace
    lower = (*workspace.lower[:2], max(START_HEIGHT, workspace.lower[2]))
    simulator.place(random.uniform(lower, workspace.upper), DOWN, closedness)
    return simulator.snapshot()


def draw_place(
    simulator: Simulator,
    name: str,
    random: np.random.Generator,
    way_lengths: tuple[float, float] = WAY,
) -> np.ndarray:
    """A place [2] on the table for an object, with a free way to it [m].

    Args:
        simulator: in the scene.
        name: of the object.
        random: decides.
        way_lengths: least and largest distance from where the object is [m].

    Raises:
        TeachingError: there is none in this scene.
    """
    config = simulator.config
    index = OBJECTS.index(name)
    positions = simulator.object_positions()[:, :2]
    here, other = positions[index], positions[1 - index]
    for _ in range(_TRIES):
        place = random.uniform(config.object_lower, config.object_upper)
        way = place - here
        length = np.linalg.norm(way)
        along = np.clip((other - here) @ way / length**2, 0.0, 1.0)
        clearance = np.linalg.norm(here + along * way - other)
        if way_lengths[0] <= length <= way_lengths[1] and clearance >= CLEARANCE:
            return place
    raise TeachingError(f"no free place for the {name} in this scene")
