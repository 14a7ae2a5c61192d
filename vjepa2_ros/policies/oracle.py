# SPDX-License-Identifier: Apache-2.0
"""The policy that knows the truth: what the pictures allow to anyone who reads them perfectly."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.planning.objective import LatentDistance
from vjepa2_ros.policies.direct import DirectPlanner, go_to
from vjepa2_ros.tasks.task import SubGoal


class Oracle(DirectPlanner):
    """Goes straight to where the hand is in the picture of the sub-goal.

    Where the gripper is planned, it goes to the closedness that was commanded in the picture, once
    the hand is there (see `go_to`).

    Args:
        subgoals: of the episode, with the truth about their pictures.
        goals: latents [G, N, D] of the pictures.
    """

    def __init__(self, subgoals: Sequence[SubGoal], goals: Tensor) -> None:
        self._subgoals = subgoals
        self._goals = goals

    def decide(self, objective: LatentDistance, space: ActionSpace) -> Tensor:
        """See `DirectPlanner`."""
        # Which sub-goal it is, its latent tells; equal pictures have the same truth.
        goals = self._goals.to(objective.goal.device)
        number = int((goals - objective.goal).abs().sum(dim=(1, 2)).argmin())
        subgoal = self._subgoals[number]
        position = torch.as_tensor(subgoal.hand, dtype=torch.float32)
        return go_to(space, objective.state.cpu(), position, subgoal.closedness)
