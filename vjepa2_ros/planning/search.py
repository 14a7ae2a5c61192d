# SPDX-License-Identifier: Apache-2.0
"""What the planners that search the unit cube share: budget, start, sampling and record."""

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.stats import qmc
from torch import Tensor

from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.planning.planner import Objective, Plan, evaluate
from vjepa2_ros.settings.declaration import parameters_of


class Search:
    """The record of one search in the cube -1..1 of the free dimensions of a space.

    Attributes:
        objective: what is minimised; a planner may wrap it to record what it predicts.
        points: all that were evaluated so far [S, dimensions] float64.
        energies: theirs [S] float64.
        start: where to begin [dimensions]: at the rest of the last plan, or without motion.
    """

    def __init__(
        self,
        objective: Objective,
        space: ActionSpace,
        generator: torch.Generator,
        previous: Tensor | None = None,
    ) -> None:
        self.objective = objective
        self._space = space
        self._generator = generator
        self._rest = np.zeros(space.dimensions)
        self.start = self._rest if previous is None else self._point(previous)
        self.points = np.empty((0, space.dimensions))
        self.energies = np.empty(0)

    @property
    def dimensions(self) -> int:
        """Number of free dimensions."""
        return self._space.dimensions

    @cached_property
    def random(self) -> np.random.Generator:
        """A numpy generator that the torch one seeds."""
        return np.random.default_rng(int(torch.randint(2**62, (1,), generator=self._generator)))

    def spread(self, count: int) -> np.ndarray:
        """The next points [count, dimensions] of a scrambled Sobol sequence in the cube -1..1."""
        # The first one alone: scipy warns of a first draw whose length is no power of two.
        drawn = [] if self._sobol.num_generated or not count else [self._sobol.random(1)]
        drawn.append(self._sobol.random(count - len(drawn)))
        return 2.0 * np.vstack(drawn) - 1.0

    def begin(self, count: int) -> None:
        """Evaluate `count` points: no motion, the rest of the last plan, evenly spread ones."""
        known = [self._rest] if self.start is self._rest else [self._rest, self.start]
        self.evaluate(np.vstack([*known, self.spread(max(1, count - len(known)))]))

    def evaluate(self, points: np.ndarray) -> np.ndarray:
        """Energies [S] of points [S, dimensions], recorded with the nearest points in the space."""
        actions = self._actions(points)
        energies = evaluate(self.objective, actions).double().numpy()
        self.points = np.concatenate([self.points, self._point(actions)])
        self.energies = np.concatenate([self.energies, energies])
        return energies

    def nearest(self, points: np.ndarray) -> np.ndarray:
        """The points of the space [S, dimensions] that would be evaluated for these."""
        return self._point(self._actions(points))

    @property
    def best(self) -> np.ndarray:
        """The point [dimensions] of least energy."""
        return self.points[self.energies.argmin()]

    def elites(self, count: int) -> np.ndarray:
        """The `count` points of least energy [count, dimensions], best first."""
        return self.points[self.energies.argsort(kind="stable")[:count]]

    def plan(self) -> Plan:
        """The best point as a plan, without a change of the gripper below its threshold."""
        found = self._actions(self.best[None])[0]
        settled = self._space.settle(found)
        if torch.equal(settled, found):
            return Plan(found, float(self.energies.min()), len(self.energies))
        energy = float(evaluate(self.objective, settled[None])[0])
        return Plan(settled, energy, len(self.energies) + 1)

    @cached_property
    def _sobol(self) -> qmc.Sobol:
        return qmc.Sobol(self.dimensions, seed=self.random)

    def _actions(self, points: np.ndarray) -> Tensor:
        return self._space.from_unit(torch.from_numpy(points).float())

    def _point(self, actions: Tensor) -> np.ndarray:
        return self._space.to_unit(actions).double().numpy()


class SearchPlanner(ABC):
    """A planner with a budget of evaluations; subclasses fill `search`.

    Args:
        settings: of the search; its class declares the least number of `evaluations`.

    Raises:
        SettingsError: `settings.evaluations` is out of the declared range.
    """

    def __init__(self, settings: Any) -> None:
        budget = parameters_of(type(settings))["evaluations"]
        self.evaluations: int = budget.check(settings.evaluations)

    def plan(
        self,
        objective: Objective,
        space: ActionSpace,
        generator: torch.Generator,
        previous: Tensor | None = None,
    ) -> Plan:
        """Search as `Planner.plan`."""
        search = Search(objective, space, generator, previous)
        self.search(search)
        return search.plan()

    @abstractmethod
    def search(self, search: Search) -> None:
        """Evaluate points; the best one becomes the plan."""
