# SPDX-License-Identifier: Apache-2.0
"""Search over plan skeletons: ways of the hand with a change of the gripper before, in or after.

Where contact decides, the energy is no smooth function of a whole sequence: whether an object comes
along depends on when the fingers close. As in task and motion planning, the discrete part of a plan
is enumerated and the continuous part searched. An action moves the hand or sets the gripper fully
open or closed, never both, so that a sequence of H actions has a skeleton: the number of actions
before the gripper changes, or that it does not. The hand moves straight, and as fast as it may,
before that and again after it; without a change of the gripper there is also a way round, by way of
a point beside the straight one. What a skeleton leaves open, the end of a way, is searched by a
quadratic surrogate of the latents (`latent_quadratic`), each skeleton for itself, and the best plan
of all is chosen, the rest of the last plan among them. Where something is grasped is a small place
in all that can be reached, so that besides evenly spread ends there are some straight below: that
is where the fingers point.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vjepa2_ros.planning.action_space import ActionSpace, full_actions
from vjepa2_ros.planning.latent_quadratic import LatentQuadraticSurrogate
from vjepa2_ros.planning.planner import Objective, Plan, evaluate
from vjepa2_ros.planning.search import Search
from vjepa2_ros.settings.declaration import parameters_of
from vjepa2_ros.settings.planning import LatentQuadraticSettings

_LEAST = int(parameters_of(LatentQuadraticSettings)["evaluations"].minimum)
_BELOW = (-2 / 3, -1 / 3, -1.0)
"""Heights of ends below the hand, in units of what can be reached."""
_STRAIGHT = 0.25  # share of the evaluations for the straight way without a change of the gripper

Skeleton = Callable[[Tensor], Tensor]
"""Unit points [S, E] to changes on the axes of the space [S, H, A]; E is 3, or 4 with a yaw."""


class SkeletonSearch:
    """A `Planner` for horizons of two actions and more.

    Each skeleton takes 12 evaluations at least: with a horizon of 3 and a searched gripper there
    are five.

    Args:
        settings: of the search.

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
        plans = []
        if previous is not None:
            rest = space.settle(full_actions(space.clip(space.searched(previous))))
            plans.append(Plan(rest, float(evaluate(objective, rest[None])[0]), 1))

        def search(skeleton: Skeleton, evaluations: int) -> Plan:
            record = _SkeletonRecord(objective, space, generator, skeleton)
            LatentQuadraticSurrogate(LatentQuadraticSettings(evaluations)).search(record)
            plans.append(record.plan())
            return plans[-1]

        motion, horizon = _Motion(space), space.horizon
        others = self._others(space, motion)
        budget = self.evaluations - len(plans)
        straight = max(_LEAST, int(budget * _STRAIGHT) if others else budget)
        best_way = search(
            lambda points: motion.way(points * motion.bounds * horizon, horizon), straight
        )
        end = motion.of(best_way.actions).sum(0)
        each = max(_LEAST, (budget - straight) // max(1, len(others)))
        for make in others:
            search(make(end), each)
        best = min(plans, key=lambda plan: plan.energy)
        return Plan(best.actions, best.energy, sum(plan.evaluations for plan in plans))

    @staticmethod
    def _others(space: ActionSpace, motion: _Motion) -> list[Callable[[Tensor], Skeleton]]:
        """What makes further skeletons, given where the straight way ends [E]."""
        horizon = space.horizon
        if horizon == 1:
            return []
        others: list[Callable[[Tensor], Skeleton]] = [
            lambda end: lambda points: motion.detour(end, points * motion.bounds, horizon)
        ]
        if "gripper" in space.fixed_axes or space.closing is not None:
            return others
        closed = (space.closedness or 0.0) > 0.5
        change = space.gripper.max_change * (-1.0 if closed else 1.0)
        others += [_with_change(motion, before, change, horizon) for before in range(horizon)]
        return others


def _with_change(
    motion: _Motion, before: int, change: float, horizon: int
) -> Callable[[Tensor], Skeleton]:
    """Skeletons in which the gripper changes after `before` actions.

    What is searched is the way before the change. Where there is none, it is the way after it; else
    the way after it leads to where the straight way without a change would end.
    """
    after = horizon - before - 1

    def at_end(end: Tensor) -> Skeleton:
        def skeleton(points: Tensor) -> Tensor:
            if before == 0:
                way = motion.way(points * motion.bounds * after, after)
                return torch.cat([motion.grip(len(points), change), way], dim=1)
            first = points * motion.bounds * before
            parts = [motion.way(first, before), motion.grip(len(points), change)]
            if after:
                parts.append(motion.way(end - first, after))
            return torch.cat(parts, dim=1)

        return skeleton

    return at_end


class _Motion:
    """Motions of the hand on the E axes that are not the gripper's, as steps on all A axes."""

    def __init__(self, space: ActionSpace) -> None:
        self._width = len(space.axes)
        self._gripper = space.axes.index("gripper")
        self._columns = [number for number in range(self._width) if number != self._gripper]
        self._space = space
        self.bounds = space.bounds[self._columns]

    def of(self, actions: Tensor) -> Tensor:
        """Motions [H, E] of actions [H, 7]."""
        return self._space.searched(actions)[..., self._columns]

    def grip(self, count: int, change: float) -> Tensor:
        """One step [count, 1, A] that changes the gripper."""
        step = torch.zeros(count, 1, self._width)
        step[..., self._gripper] = change
        return step

    def way(self, ends: Tensor, actions: int) -> Tensor:
        """Steps [S, actions, A] straight to ends [S, E], each as long as the bounds allow."""
        farthest = (ends / self.bounds).abs().amax(1).clamp(min=1e-9)
        covered = (torch.arange(actions + 1) / farthest[:, None]).clamp(max=1.0)
        return self._steps(covered.diff(dim=1)[..., None] * ends[:, None])

    def detour(self, end: Tensor, aside: Tensor, actions: int) -> Tensor:
        """Steps [S, actions, A] to an end [E] past points that lie aside [S, E] of the middle."""
        share = torch.linspace(0.0, 1.0, actions + 1)[:, None]
        places = share * end + (4.0 * share * (1.0 - share)) * aside[:, None]
        return self._steps(places.diff(dim=1))

    def _steps(self, motions: Tensor) -> Tensor:
        steps = motions.new_zeros(*motions.shape[:-1], self._width)
        steps[..., self._columns] = motions
        return steps


class _SkeletonRecord(Search):
    """A search in the cube -1..1 of what one skeleton leaves open."""

    def __init__(
        self,
        objective: Objective,
        space: ActionSpace,
        generator: torch.Generator,
        skeleton: Skeleton,
    ) -> None:
        super().__init__(objective, space, generator)
        self._skeleton = skeleton
        self._rest = self.start = np.zeros(self.dimensions)
        self.points = np.empty((0, self.dimensions))

    @property
    def dimensions(self) -> int:
        """Of an end: E."""
        return len(self._space.axes) - 1

    def begin(self, count: int) -> None:
        """Evaluate about `count` points: no motion, ends straight below, evenly spread ones."""
        below = np.zeros((min(len(_BELOW), max(0, count - 2)), self.dimensions))
        below[:, 2] = _BELOW[: len(below)]
        spread = self.spread(max(1, count - len(below) - 1))
        self.evaluate(np.vstack([self._rest, below, spread]))

    def evaluate(self, points: np.ndarray) -> np.ndarray:
        """Energies [S] of points [S, E], recorded with these points."""
        energies = evaluate(self.objective, self._actions(points)).double().numpy()
        self.points = np.concatenate([self.points, points])
        self.energies = np.concatenate([self.energies, energies])
        return energies

    def nearest(self, points: np.ndarray) -> np.ndarray:
        """The same points: what the space cuts off stays with the point."""
        return points

    def _actions(self, points: np.ndarray) -> Tensor:
        searched = self._skeleton(torch.from_numpy(points).float())
        return full_actions(self._space.clip(searched))
