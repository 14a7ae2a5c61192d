# SPDX-License-Identifier: Apache-2.0
"""The interface of planners: a search for the action sequence of least energy.

A planner is given an objective and a space, and knows nothing of models and robots. A new one is a
class with `evaluations` and `plan` in a separate file; `planners.py` creates it by name, also
from outside this package.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from vjepa2_ros.planning.action_space import ActionSpace


class Objective(Protocol):
    """Energies of action sequences, lower is better, and what they are computed from.

    An energy is a function of the difference between the predicted latent and the goal's. Planners
    that model the difference instead of the energy use the two halves apart.
    """

    def __call__(self, actions: Tensor) -> Tensor:
        """Energies [S] float32 on the CPU of action sequences [S, H, 7]."""

    def differences(self, actions: Tensor) -> Tensor:
        """Predicted latents minus the goal's, [S, M] on any device, of sequences [S, H, 7]."""

    def energies(self, differences: Tensor) -> Tensor:
        """Energies [S] of differences [S, M], on their device; the differences are not changed."""


@dataclass(frozen=True)
class Plan:
    """What a search found.

    Attributes:
        actions: [H, 7] float32 on the CPU.
        energy: the objective's value at exactly these actions; NaN where nothing was evaluated.
        evaluations: number of sequences that the objective was evaluated at.
        trace: intermediate results, where they were asked for; its type is the planner's.
    """

    actions: Tensor
    energy: float
    evaluations: int
    trace: Any = None


class Planner(Protocol):
    """A search for the action sequence of least energy."""

    @property
    def evaluations(self) -> int:
        """Number of sequences that the objective is evaluated at, give or take a few."""

    def plan(
        self,
        objective: Objective,
        space: ActionSpace,
        generator: torch.Generator,
        previous: Tensor | None = None,
    ) -> Plan:
        """Search a space.

        Args:
            objective: what is minimised.
            space: what the plan may consist of.
            generator: the only source of randomness.
            previous: a sequence [H, 7] that is likely to be good: the rest of the last plan.

        Raises:
            ValueError: an energy is not finite.
        """


def evaluate(objective: Objective, actions: Tensor) -> Tensor:
    """Energies [S] of sequences [S, H, 7].

    Raises:
        ValueError: one of them is not finite.
    """
    energies = objective(actions)
    if not energies.isfinite().all():
        count = int((~energies.isfinite()).sum())
        raise ValueError(
            f"{count} of {len(energies)} energies are not finite: no plan can be trusted"
        )
    return energies
