# SPDX-License-Identifier: Apache-2.0
"""The policy that moves at random: what a task grants to chance."""

from __future__ import annotations

import torch
from torch import Tensor

from vjepa2_ros.planning.action_space import AXES, ActionSpace
from vjepa2_ros.planning.objective import LatentDistance
from vjepa2_ros.policies.direct import DirectPlanner


class RandomActions(DirectPlanner):
    """Each action is a random point of the space.

    Args:
        seed: of all actions; one per episode, so that an episode repeats exactly.
    """

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def decide(self, objective: LatentDistance, space: ActionSpace) -> Tensor:
        """See `DirectPlanner`."""
        points = torch.rand(space.horizon, len(AXES), generator=self._generator)
        return (2.0 * points - 1.0) * space.bounds
