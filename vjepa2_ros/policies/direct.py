# SPDX-License-Identifier: Apache-2.0
"""What the policies share that decide without a prediction."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from vjepa2_ros.planning.action_space import ActionSpace, full_actions
from vjepa2_ros.planning.objective import LatentDistance
from vjepa2_ros.planning.planner import Objective, Plan

AT_GOAL = 0.01
"""Way of the hand that is left from which on the gripper moves [m]."""


class DirectPlanner(ABC):
    """A `Planner` that evaluates nothing, so that its plans have the energy NaN."""

    evaluations = 0

    def plan(
        self,
        objective: Objective,
        space: ActionSpace,
        generator: torch.Generator,
        previous: Tensor | None = None,
    ) -> Plan:
        """Decide as `Planner.plan`; `generator` and `previous` are not used.

        Raises:
            TypeError: the objective is no `LatentDistance`, so that latents and state are unknown.
        """
        if not isinstance(objective, LatentDistance):
            raise TypeError(f"needs a LatentDistance, not a {type(objective).__name__}")
        searched = space.clip(self.decide(objective, space))
        return Plan(space.settle(full_actions(searched)), math.nan, self.evaluations)

    @abstractmethod
    def decide(self, objective: LatentDistance, space: ActionSpace) -> Tensor:
        """Actions x, y, z, gripper [H, 4], on the CPU, which are then put into the space.

        Args:
            objective: of which latent [N, D], goal [N, D] and state [7] may be read.
            space: with the horizon H.
        """


def go_to(space: ActionSpace, state: Tensor, position: Tensor, closedness: float) -> Tensor:
    """Actions x, y, z, gripper [H, 4] that lead straight to a pose.

    Each axis moves by its bound until it is there. The gripper waits until the hand is within
    `AT_GOAL` of where the space lets it go: fingers that close on the way push the object.

    Args:
        space: bounds of the actions.
        state: present one [7].
        position: to go to [3] in metres.
        closedness: to reach there.
    """
    left = torch.cat([position, torch.tensor([closedness])]) - state[[0, 1, 2, 6]]
    limits = torch.arange(1, space.horizon + 1)[:, None] * space.bounds
    moved = torch.minimum(torch.maximum(left.expand_as(limits), -limits), limits)
    actions = moved.diff(dim=0, prepend=torch.zeros(1, 4))
    if space.clip(actions)[0, :3].norm() > AT_GOAL:
        actions[:, 3] = 0.0
    return actions
