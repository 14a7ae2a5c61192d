# SPDX-License-Identifier: Apache-2.0
"""What every planner is: a search for the action sequence of least energy.

A new one is a class with `evaluations` and `plan`, in a file of its own; `planners.py` makes it
by name, also from outside this package.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from scipy.stats import qmc
from torch import Tensor

from vjepa2_ros.planning.action_space import ActionSpace

Objective = Callable[[Tensor], Tensor]
"""Energies [S] of action sequences [S, H, 7], lower is better."""


class LatentObjective(Protocol):
    """An `Objective` that also tells what its energies are made of."""

    def __call__(self, actions: Tensor) -> Tensor:
        """Energies [S] on the CPU of action sequences [S, H, 7]."""

    def differences(self, actions: Tensor) -> Tensor:
        """What was imagined less what is wanted [S, M], on any device."""

    def energies(self, differences: Tensor) -> Tensor:
        """Energies [S], on the same device, of such differences [S, M], which stay as they are."""


@dataclass(frozen=True)
class Plan:
    """What a search found.

    actions: [H, 7] float32 on the CPU.
    energy: the objective's value at exactly these actions.
    evaluations: number of sequences that the objective was asked about.
    trace: what happened on the way, where it was asked for; its type is the planner's.
    """

    actions: Tensor
    energy: float
    evaluations: int
    trace: Any = None


class Planner(Protocol):
    """evaluations: how many sequences the objective is asked about, at most a few more."""

    evaluations: int

    def plan(
        self,
        objective: Objective,
        space: ActionSpace,
        generator: torch.Generator,
        previous: Tensor | None = None,
    ) -> Plan:
        """Search `space`.

        generator: the only source of randomness.
        previous: a sequence [H, 7] that is likely to be good: the rest of the last plan.
        Raises ValueError on energies that are not finite.
        """


def evaluate(objective: Objective, actions: Tensor) -> Tensor:
    """Energies [S] of sequences [S, H, 7]; ValueError where one is not finite."""
    energies = objective(actions)
    if not energies.isfinite().all():
        count = int((~energies.isfinite()).sum())
        raise ValueError(
            f"{count} of {len(energies)} energies are not finite: no plan can be trusted"
        )
    return energies


class Search:
    """The record of one search in the cube -1..1 of the free dimensions of a space.

    points: all that were asked about so far [S, dimensions] float64. energies: theirs [S].
    """

    def __init__(self, objective: Objective, space: ActionSpace) -> None:
        self._objective = objective
        self._space = space
        self.points = np.empty((0, space.dimensions))
        self.energies = np.empty(0)

    def start(self, previous: Tensor | None) -> np.ndarray:
        """Where to begin [dimensions]: at the rest of the last plan, or standing still."""
        if previous is None:
            return np.zeros(self._space.dimensions)
        return self._space.to_unit(previous).double().numpy()

    def begin(self, spread: qmc.QMCEngine, count: int, previous: Tensor | None) -> None:
        """Ask about `count` points: no motion, the rest of the last plan, evenly spread ones."""
        known = [self.start(None)] if previous is None else [self.start(None), self.start(previous)]
        self.evaluate(np.vstack([*known, cube(spread, max(1, count - len(known)))]))

    def evaluate(self, points: np.ndarray) -> np.ndarray:
        """Energies [S] of points [S, dimensions], kept with the nearest points in the space."""
        actions = self._actions(points)
        energies = evaluate(self._objective, actions).double().numpy()
        self.points = np.concatenate([self.points, self._space.to_unit(actions).double().numpy()])
        self.energies = np.concatenate([self.energies, energies])
        return energies

    def nearest(self, points: np.ndarray) -> np.ndarray:
        """The points of the space [S, dimensions] that would be asked about instead of these."""
        return self._space.to_unit(self._actions(points)).double().numpy()

    @property
    def best(self) -> np.ndarray:
        """The point [dimensions] of least energy."""
        return self.points[self.energies.argmin()]

    def elites(self, count: int) -> np.ndarray:
        """The `count` points of least energy [count, dimensions], best first."""
        return self.points[self.energies.argsort(kind="stable")[:count]]

    def plan(self) -> Plan:
        """The best point as a plan, with a gripper change too small to matter taken out."""
        found = self._actions(self.best[None])[0]
        settled = self._space.settle(found)
        if torch.equal(settled, found):
            return Plan(found, float(self.energies.min()), len(self.energies))
        energy = float(evaluate(self._objective, settled[None])[0])
        return Plan(settled, energy, len(self.energies) + 1)

    def _actions(self, points: np.ndarray) -> Tensor:
        return self._space.from_unit(torch.from_numpy(points).float())


def numpy_generator(generator: torch.Generator) -> np.random.Generator:
    """A numpy generator seeded from a torch one, for what scipy draws."""
    return np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))


def cube(spread: qmc.QMCEngine, count: int) -> np.ndarray:
    """The next `count` points [count, D] of a low-discrepancy sequence, in the cube -1..1."""
    points = np.empty((count, spread.d))
    # One by one: scipy warns at numbers that are no power of two, where the sequence is less even.
    for point in points:
        point[:] = spread.random(1)[0]
    return 2.0 * points - 1.0
