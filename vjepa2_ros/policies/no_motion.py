# SPDX-License-Identifier: Apache-2.0
"""The policy that does nothing: what a task grants without any motion."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.planning.planner import Objective, Plan


class NoMotion:
    """A `Planner` of a hand that stays where it is."""

    evaluations = 0

    def plan(
        self,
        objective: Objective,
        space: ActionSpace,
        generator: torch.Generator,
        previous: Tensor | None = None,
    ) -> Plan:
        """No motion, as a plan of the energy NaN; only the horizon of the space is used."""
        return Plan(torch.zeros(space.horizon, 7), math.nan, self.evaluations)
