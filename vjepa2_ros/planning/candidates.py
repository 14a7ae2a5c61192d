# SPDX-License-Identifier: Apache-2.0
"""What a search looked at, kept for those who watch it: of any planner, by its objective."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vjepa2_ros.planning.objective import LatentDistance


@dataclass(frozen=True)
class Candidates:
    """Action sequences that a search evaluated, best first.

    Attributes:
        actions: [S, H, 7] float32 on the CPU.
        energies: [S] float32 on the CPU, ascending.
    """

    actions: Tensor
    energies: Tensor

    def thinned(self, most: int) -> Candidates:
        """At most `most` of them: the better half of these are the best, the others spread evenly.

        Raises:
            ValueError: `most` is below 2.
        """
        count = len(self.energies)
        if most < 2:
            raise ValueError(f"most must be at least 2, got {most}")
        if count <= most:
            return self
        best = most // 2
        others = torch.linspace(best, count - 1, most - best).long()
        kept = torch.cat([torch.arange(best), others])
        return Candidates(self.actions[kept], self.energies[kept])


class RecordedDistance(LatentDistance):
    """A `LatentDistance` that keeps the sequences it is evaluated at; the energies are the same.

    Args:
        objective: that it takes the place of.
    """

    def __init__(self, objective: LatentDistance) -> None:
        vars(self).update(vars(objective))
        self._actions: list[Tensor] = []
        self._energies: list[Tensor] = []

    def differences(self, actions: Tensor) -> Tensor:
        """See `LatentDistance.differences`."""
        differences = super().differences(actions)
        # Copies: a search may change its own afterwards.
        self._actions.append(actions.detach().to("cpu", torch.float32, copy=True))
        self._energies.append(self.energies(differences).cpu())
        return differences

    def candidates(self) -> Candidates | None:
        """All sequences evaluated so far; None before the first."""
        if not self._actions:
            return None
        actions, energies = torch.cat(self._actions), torch.cat(self._energies)
        order = energies.argsort(stable=True)
        return Candidates(actions[order], energies[order])
