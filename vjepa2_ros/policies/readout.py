# SPDX-License-Identifier: Apache-2.0
"""The policy that reads the pose from the goal picture and goes there: what needs no planning."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.planning.objective import LatentDistance
from vjepa2_ros.policies.direct import DirectPlanner, go_to


class ReadOut(DirectPlanner):
    """A servo on the hand's position and the gripper's closedness that the goal's latent shows.

    Args:
        readout: maps a latent [N * D] to x, y, z [m] and measured closedness [4].
    """

    def __init__(self, readout: nn.Linear) -> None:
        self._readout = readout

    @torch.no_grad()
    def decide(self, objective: LatentDistance, space: ActionSpace) -> Tensor:
        """See `DirectPlanner`."""
        pose = self._readout(objective.goal.flatten()).cpu()
        return go_to(space, objective.state.cpu(), pose[:3], float(pose[3].clamp(0.0, 1.0)))
