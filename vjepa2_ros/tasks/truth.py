# SPDX-License-Identifier: Apache-2.0
"""What really happens in the simulated cell: for scores, never for training or planning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vjepa2_ros.simulation.simulator import Simulator


@dataclass(frozen=True)
class Truth:
    """The cell at one moment. Arrays over objects are in the order of `simulator.OBJECTS`.

    Attributes:
        time: simulated, or of the clock of the stamps [s].
        hand: tool centre point [3] in metres, base frame.
        closedness: measured, 0 (open) to 1 (closed).
        commanded_closedness: what the gripper was told last.
        objects: centres [2, 3] in metres, base frame.
        tilts: angles of the objects' own vertical axes to the vertical [2] in radians.
        held: whether both fingers touch the object [2] bool.
        simulated_time: of the simulated world [s]; NaN where it is unknown.
    """

    time: float
    hand: np.ndarray
    closedness: float
    commanded_closedness: float
    objects: np.ndarray
    tilts: np.ndarray
    held: np.ndarray
    simulated_time: float = math.nan

    @classmethod
    def of(cls, simulator: Simulator) -> Truth:
        """The present state of a simulated cell."""
        position, _, closedness = simulator.pose()
        return cls(
            simulator.time,
            position,
            closedness,
            simulator.commanded_closedness,
            simulator.object_positions(),
            simulator.object_tilts(),
            simulator.held(),
            simulator.time,
        )


class Trace:
    """The truth over an episode, from its start to its end, as arrays over time.

    Args:
        truths: in the order of time, at least one.

    Attributes:
        time: [T] in seconds.
        hand: [T, 3] in metres.
        closedness, commanded_closedness: [T].
        objects: [T, 2, 3] in metres.
        tilts: [T, 2] in radians.
        held: [T, 2] bool.
        simulated_time: [T] in seconds, NaN where it is unknown.
    """

    def __init__(self, truths: Sequence[Truth]) -> None:
        self.time = np.array([truth.time for truth in truths])
        self.hand = np.stack([truth.hand for truth in truths])
        self.closedness = np.array([truth.closedness for truth in truths])
        self.commanded_closedness = np.array([truth.commanded_closedness for truth in truths])
        self.objects = np.stack([truth.objects for truth in truths])
        self.tilts = np.stack([truth.tilts for truth in truths])
        self.held = np.stack([truth.held for truth in truths])
        self.simulated_time = np.array([truth.simulated_time for truth in truths])
