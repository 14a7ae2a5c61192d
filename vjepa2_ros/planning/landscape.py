# SPDX-License-Identifier: Apache-2.0
"""Energies of single actions round a pose, on two slices: what a planner searches, as a picture."""

from __future__ import annotations

import torch
from torch import Tensor

from vjepa2_ros.planning.action_space import full_actions

POINTS = 15
"""Points of a slice along an axis, unless told otherwise."""
MOST_POINTS = 51
"""The 5,202 evaluations of this many points a side are about as many as the paper's plan makes."""


def slice_actions(points: int, reach: float, horizon: int) -> Tensor:
    """Sequences whose first action lies on a slice, and that do nothing afterwards.

    Args:
        points: along an axis, odd, so that no motion is among them.
        reach: farthest motion on each axis [m].
        horizon: actions of a sequence.

    Returns:
        float32 [2 * points * points, horizon, 7]: x and y, then x and z; x changes slowest.

    Raises:
        ValueError: `points` is even, below 3 or above `MOST_POINTS`.
    """
    if points % 2 == 0 or not 3 <= points <= MOST_POINTS:
        raise ValueError(f"points must be an odd number from 3 to {MOST_POINTS}, not {points}")
    steps = torch.linspace(-reach, reach, points)
    first, second = torch.meshgrid(steps, steps, indexing="ij")
    searched = torch.zeros(2, points, points, horizon, 4)
    searched[:, :, :, 0, 0] = first
    searched[0, :, :, 0, 1] = second
    searched[1, :, :, 0, 2] = second
    return full_actions(searched.reshape(-1, horizon, 4))
