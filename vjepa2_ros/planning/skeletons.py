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
_BELOW = np.array([[0.0, 0.0, -2 / 3], [0.0, 0.0, -1 / 3], [0.0, 0.0, -1.0]])
"""Ends below the hand, in units of what can be reached."""
_STRAIGHT = 0.25  # share of the evaluations for the straight way without a change of the gripper

Skeleton = Callable[[Tensor], Tensor]
"""Unit points [S, 3] to x, y, z, gripper [S, H, 4]."""


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
            rest = space.settle(full_actions(space.clip(_searched(previous))))
            plans.append(Plan(rest, float(evaluate(objective, rest[None])[0]), 1))

        def search(skeleton: Skeleton, evaluations: int) -> Plan:
            record = _SkeletonRecord(objective, space, generator, skeleton)
            LatentQuadraticSurrogate(LatentQuadraticSettings(evaluations)).search(record)
            plans.append(record.plan())
            return plans[-1]

        others = self._others(space)
        bound, budget = space.max_translation, self.evaluations - len(plans)
        straight = max(_LEAST, int(budget * _STRAIGHT) if others else budget)
        end = search(lambda points: _way(points * _reach(space), space.horizon, bound), straight)
        destination = end.actions[:, :3].sum(0)
        each = max(_LEAST, (budget - straight) // max(1, len(others)))
        for make in others:
            search(make(destination), each)
        best = min(plans, key=lambda plan: plan.energy)
        return Plan(best.actions, best.energy, sum(plan.evaluations for plan in plans))

    @staticmethod
    def _others(space: ActionSpace) -> list[Callable[[Tensor], Skeleton]]:
        """What makes further skeletons, given where the straight way ends [3]."""
        horizon = space.horizon
        others: list[Callable[[Tensor], Skeleton]] = []
        if horizon > 1:
            others.append(
                lambda end: lambda points: _detour(end, points * space.max_translation, horizon)
            )
        if "gripper" in space.fixed_axes or space.closing is not None or horizon == 1:
            return others
        closed = (space.closedness or 0.0) > 0.5
        change = space.gripper.max_change * (-1.0 if closed else 1.0)
        for before in range(horizon):
            others.append(_with_change(space, before, change))
        return others


def _with_change(
    space: ActionSpace, before: int, change: float
) -> Callable[[Tensor], Skeleton]:
    """Skeletons in which the gripper changes after `before` actions.

    What is searched is the way before the change. Where there is none, it is the way after it; else
    the way after it leads to where the straight way without a change would end.
    """
    after, bound = space.horizon - before - 1, space.max_translation

    def at_end(end: Tensor) -> Skeleton:
        def skeleton(points: Tensor) -> Tensor:
            gripper = points.new_zeros(len(points), 1, 4)
            gripper[..., 3] = change
            if before == 0:
                way = _way(points * _reach(space, after), after, bound)
                return torch.cat([gripper, way], dim=1)
            first = points * _reach(space, before)
            parts = [_way(first, before, bound), gripper]
            if after:
                parts.append(_way(end - first, after, bound))
            return torch.cat(parts, dim=1)

        return skeleton

    return at_end


def _reach(space: ActionSpace, actions: int | None = None) -> float:
    """How far on each axis some actions lead, all by default [m]."""
    return space.max_translation * (space.horizon if actions is None else actions)


def _way(ends: Tensor, actions: int, bound: float) -> Tensor:
    """Steps [S, actions, 4] straight to ends [S, 3], each as long as `bound` allows."""
    farthest = ends.abs().amax(1).clamp(min=1e-9)
    covered = bound * torch.arange(actions + 1) / farthest[:, None]
    steps = ends.new_zeros(len(ends), actions, 4)
    steps[..., :3] = covered.clamp(max=1.0).diff(dim=1)[..., None] * ends[:, None]
    return steps


def _detour(end: Tensor, aside: Tensor, actions: int) -> Tensor:
    """Steps [S, actions, 4] to an end [3] by way of points that lie aside [S, 3] of the middle."""
    share = torch.linspace(0.0, 1.0, actions + 1)[:, None]
    places = share * end + (4.0 * share * (1.0 - share)) * aside[:, None]
    steps = aside.new_zeros(len(aside), actions, 4)
    steps[..., :3] = places.diff(dim=1)
    return steps


def _searched(actions: Tensor) -> Tensor:
    return actions[..., [0, 1, 2, 6]]


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
        """Of an end."""
        return 3

    def begin(self, count: int) -> None:
        """Evaluate about `count` points: no motion, ends straight below, evenly spread ones."""
        known = np.vstack([self._rest, _BELOW[: max(0, count - 2)]])
        self.evaluate(np.vstack([known, self.spread(max(1, count - len(known)))]))

    def evaluate(self, points: np.ndarray) -> np.ndarray:
        """Energies [S] of points [S, 3], recorded with these points."""
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
