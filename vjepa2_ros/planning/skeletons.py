# SPDX-License-Identifier: Apache-2.0
"""Search over plan skeletons: ways of the hand with a change of the gripper before, in or after.

Where contact decides, the energy is no smooth function of a whole sequence: whether an object comes
along depends on when the fingers close. As in task and motion planning, the discrete part of a plan
is enumerated and the continuous part searched. An action moves the hand or sets the gripper fully
open or closed, never both. The skeletons of a sequence of H actions are

* a straight way, as fast as the hand may go;
* a way round, past a point beside the straight one to the same end; with four actions or more in an
  arc over what stands there to any point as high as that end, for instance behind an object that is
  pushed there;
* a way to somewhere, a change of the gripper there, and a way to the end of the straight one; with
  five actions or more and a closed gripper also one that opens it first, and closes it there: it
  may have closed on nothing;
* ways to the end of the best of all these, so that plans that differ in how they get there or when
  the gripper changes are compared at the same place: straight, with the gripper changed before,
  after or between the steps; and over the end and straight down, with it changed after that or not
  at all.

A change of the gripper that motion follows has to be worth it: everything is planned again after
the first action, so that it may as well come later, while fingers that close before they are there
are seldom opened again. For each step after it a plan counts as a tenth worse than it is, and as
much worse if the hand comes from the side to where it opens or closes: it knocks over what stands
there.

Predictions hardly tell an object amid the fingers from one at their edge, so that the best of many
places is often beside the middle of those that do. So the hand goes to their mean, weighted by the
energies as in path-integral control (Williams et al., IEEE T-RO 34, 2018), where that is a tenth
worse at most. With plans of up to three actions the picture mostly shows the place itself.

Waiting first is no use where nothing moves by itself, and a plan that waits would be put off for
ever, step by step: the best plan is carried out from its first action that does anything.

What a skeleton leaves open, a place, is searched by a quadratic surrogate of the latents
(`latent_quadratic`), and the best plan of all is chosen, the rest of the last plan among them.
Where something is grasped is a small place in all that can be reached, so that the search for it
begins straight below the hand: that is where the fingers point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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
_IDLE = 0.1  # of the bound on each axis: a step below it is next to nothing
_SHARE = 0.22  # of the evaluations for each search but those of the straight way and of a push
_PUSH_SHARE = 0.4
_PUSH_HORIZON = 4  # least number of actions in which something is gone round and pushed
_RISES = (1.0, 0.5)  # over an end from which it is gone down to, in bounds
_HANDICAP = 0.1  # of the energy, for each thing that speaks against a change of the gripper
_BESIDE = 0.02  # farther than this beside an end a hand comes from the side [m]
_AGAIN_HORIZON = 5  # least number of actions in which something is grasped again
_CENTRED_HORIZON = 4  # with fewer actions the picture mostly shows the place itself
_AROUND, _RADIUS = 8, 0.02  # places round a change of the gripper, and how far they are [m]
_FETCHES = 2  # actions at most before a change of the gripper that is searched

Skeleton = Callable[[Tensor], Tensor]
"""Unit points [S, F] to changes on the axes of the space [S, H, A]. Of an end F is E, 3 or with a
yaw 4."""


class SkeletonSearch:
    """A `Planner` for horizons of two actions and more.

    Each search takes 12 evaluations at least, whatever the budget is.

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
        motion, horizon = _Motion(space), space.horizon
        if previous is not None:
            rest = space.settle(full_actions(space.clip(space.searched(previous))))
            plans.append(Plan(rest, float(evaluate(objective, rest[None])[0]), 1))

        def search(
            skeleton: Skeleton,
            evaluations: int,
            below: bool = False,
            dimensions: int | None = None,
        ) -> Plan:
            free = len(motion.bounds) if dimensions is None else dimensions
            record = _SkeletonRecord(objective, space, generator, skeleton, free, below)
            LatentQuadraticSurrogate(LatentQuadraticSettings(evaluations)).search(record)
            plans.append(record.plan())
            return plans[-1]

        change = _change(space) if horizon > 1 else None
        fetching = range(1, min(horizon - 1, 1 + _FETCHES)) if change is not None else ()
        # One is left for the best plan without its waiting.
        compared = len(_RISES) if horizon > 1 else 0
        if change is not None:
            compared += horizon + (len(_RISES) if horizon > 2 else 0)
            compared += (_AROUND + 1) * (horizon >= _CENTRED_HORIZON)
        budget = self.evaluations - len(plans) - compared - 1
        each = max(_LEAST, int(budget * _SHARE))
        pushes = horizon >= _PUSH_HORIZON
        around = (horizon > 1) * each
        if pushes and not fetching:
            around = max(_LEAST, int(budget * _PUSH_SHARE))
        again = change is not None and change < 0 and horizon >= _AGAIN_HORIZON
        straight = budget - around - (len(fetching) + again) * each
        way = search(
            lambda points: motion.way(points * motion.bounds * horizon, horizon),
            max(_LEAST, straight),
        )
        end = motion.of(way.actions).sum(0)
        if pushes:
            search(motion.pushing(end, horizon), around, dimensions=2)
        elif around:
            search(lambda points: motion.detour(end, points * motion.bounds, horizon), around)
        for before in fetching:
            search(motion.fetching(end, before, horizon, change), each, below=True)
        if again:
            search(motion.grasping_again(end, horizon, change), each, below=True)
        best = min(plans, key=motion.handicapped)
        if horizon > 1:
            end = motion.of(best.actions).sum(0)
            plans.append(self._compared(objective, space, motion, end, change))
            best = min(plans, key=motion.handicapped)
        if change is not None and horizon >= _CENTRED_HORIZON:
            best = self._centred(objective, space, motion, best, plans)
        prompt = motion.without_waiting(best.actions)
        if not torch.equal(prompt, best.actions):
            best = Plan(prompt, float(evaluate(objective, prompt[None])[0]), 1)
            plans.append(best)
        return Plan(best.actions, best.energy, sum(plan.evaluations for plan in plans))

    @staticmethod
    def _compared(
        objective: Objective,
        space: ActionSpace,
        motion: _Motion,
        end: Tensor,
        change: float | None,
    ) -> Plan:
        """The best plan to an end [E], straight or from above, with a change of the gripper."""
        horizon = space.horizon
        sequences = [motion.descent(end, horizon, rise) for rise in _RISES]
        if change is not None:
            steps, grip = motion.way(end[None], horizon - 1), motion.grip(1, change)
            sequences += [
                torch.cat([steps[:, :before], grip, steps[:, before:]], dim=1)
                for before in range(horizon)
            ]
            if horizon > 2:
                sequences += [
                    torch.cat([motion.descent(end, horizon - 1, rise), grip], dim=1)
                    for rise in _RISES
                ]
        actions = full_actions(space.clip(torch.cat(sequences)))
        energies = evaluate(objective, actions).tolist()
        found = [Plan(*plan, 1) for plan in zip(actions, energies, strict=True)]
        return replace(min(found, key=motion.handicapped), evaluations=len(found))

    @staticmethod
    def _centred(
        objective: Objective, space: ActionSpace, motion: _Motion, best: Plan, plans: list[Plan]
    ) -> Plan:
        """The best plan with its change of the gripper amid places that are nearly as good.

        What was evaluated is added to `plans`.
        """
        change = motion.change(best.actions)
        if not change:
            return best
        offsets = torch.zeros(_AROUND, len(motion.bounds))
        angles = torch.arange(_AROUND) * (2.0 * torch.pi / _AROUND)
        offsets[:, :2] = _RADIUS * torch.stack([angles.cos(), angles.sin()], dim=1)
        around = full_actions(space.clip(motion.displaced(best.actions, change, offsets)))
        energies = evaluate(objective, around)
        # Of places, since those outside the bounds were moved.
        places = motion.of(around)[:, :change].sum(1)
        here = motion.of(best.actions)[:change].sum(0)
        energies = torch.cat([energies.new_tensor([best.energy]), energies])
        least = float(energies.min())
        weights = torch.softmax((least - energies) / max(_HANDICAP * least, 1e-9), 0)
        offset = weights[1:] @ (places - here)
        actions = full_actions(space.clip(motion.displaced(best.actions, change, offset[None])))
        centre = Plan(actions[0], float(evaluate(objective, actions)[0]), _AROUND + 1)
        plans.append(centre)
        return centre if centre.energy <= (1.0 + _HANDICAP) * least else best


def _change(space: ActionSpace) -> float | None:
    """How the gripper may change: open if it is closed, else close; None where it must not."""
    if "gripper" in space.fixed_axes or space.closing is not None:
        return None
    closed = (space.closedness or 0.0) > 0.5
    return space.gripper.max_change * (-1.0 if closed else 1.0)


class _Motion:
    """Motions of the hand on the E axes that are not the gripper's, as steps on all A axes."""

    def __init__(self, space: ActionSpace) -> None:
        self._width = len(space.axes)
        self._gripper = space.axes.index("gripper")
        self._columns = [number for number in range(self._width) if number != self._gripper]
        self._space = space
        self.bounds = space.bounds[self._columns]

    def of(self, actions: Tensor) -> Tensor:
        """Motions [..., H, E] of actions [..., H, 7]."""
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

    def descent(self, end: Tensor, actions: int, rise: float) -> Tensor:
        """Steps [1, actions, A] over an end [E], `rise` of the bound above it, and down to it."""
        above = end.clone()
        above[2] += rise * self.bounds[2]
        there = self.way(above[None], actions - 1)
        down = (end - there[..., self._columns].sum(1)).clamp(-self.bounds, self.bounds)
        return torch.cat([there, self._steps(down[:, None])], dim=1)

    def detour(self, end: Tensor, aside: Tensor, actions: int) -> Tensor:
        """Steps [S, actions, A] to an end [E] past points that lie aside [S, E] of the middle."""
        share = torch.linspace(0.0, 1.0, actions + 1)[:, None]
        places = share * end + (4.0 * share * (1.0 - share)) * aside[:, None]
        return self._steps(places.diff(dim=1))

    def fetching(self, end: Tensor, before: int, actions: int, change: float) -> Skeleton:
        """Ways to somewhere in `before` actions, a change of the gripper, ways to an end [E]."""

        def skeleton(points: Tensor) -> Tensor:
            place = points * self.bounds * before
            there = self.way(place, before)
            back = self.way(end - place, actions - before - 1)
            return torch.cat([there, self.grip(len(points), change), back], dim=1)

        return skeleton

    def grasping_again(self, end: Tensor, actions: int, change: float) -> Skeleton:
        """The gripper opened, closed somewhere an action away, and ways to an end [E]."""
        fetching = self.fetching(end, 1, actions - 1, -change)

        def skeleton(points: Tensor) -> Tensor:
            return torch.cat([self.grip(len(points), change), fetching(points)], dim=1)

        return skeleton

    def pushing(self, end: Tensor, actions: int) -> Skeleton:
        """Arcs to places as high as an end [E], in half of the actions or more, and on to the end.

        A point is the direction from a place to the end, and how far it is: from half to all of
        what can be reached. An arc is as high as the bounds allow.
        """
        after = actions // 2
        before = actions - after
        reach = self.bounds[:2] * after
        share = torch.linspace(0.0, 1.0, before + 1)[:, None]
        # The first step of 4 s (1 - s) is its longest.
        rise = 4.0 * share * (1.0 - share)
        height = (self.bounds[2] - end[2].abs() / before).clamp(min=0.0) / rise[1]
        arc = torch.zeros_like(end)
        arc[2] = height

        def skeleton(points: Tensor) -> Tensor:
            angle, length = torch.pi * points[:, 0], (points[:, 1:] + 3.0) / 4.0 * reach
            place = end.expand(len(points), -1).clone()
            place[:, :2] -= torch.stack([angle.cos(), angle.sin()], dim=1) * length
            place[:, :2] = torch.minimum(torch.maximum(place[:, :2], -reach), reach)
            there = self._steps((share * place[:, None] + rise * arc).diff(dim=1))
            return torch.cat([there, self.way(end - place, after)], dim=1)

        return skeleton

    def change(self, actions: Tensor) -> int | None:
        """Number of the action of [H, 7] that first changes the gripper; None without one."""
        moves = self._space.searched(actions)[:, self._gripper].abs()
        changes = (moves >= _IDLE * self._space.bounds[self._gripper]).nonzero()
        return int(changes[0]) if len(changes) else None

    def displaced(self, actions: Tensor, change: int, offsets: Tensor) -> Tensor:
        """Steps [S, H, A] of actions [H, 7] whose gripper changes farther on by offsets [S, E].

        The first step leads aside, the one after the change back.
        """
        steps = self._space.searched(actions).repeat(len(offsets), 1, 1)
        aside = self._steps(offsets)
        steps[:, 0] += aside
        if change + 1 < len(actions):
            steps[:, change + 1] -= aside
        return steps

    def handicapped(self, plan: Plan) -> float:
        """Energy of a plan, more for what speaks against its change of the gripper."""
        first = self.change(plan.actions)
        if first is None:
            return plan.energy
        moves = self._space.searched(plan.actions)
        axes = moves.abs() >= _IDLE * self._space.bounds
        later = int(axes[first + 1 :, self._columns].any(1).sum())
        sideways = False
        if first > 0:
            beside = moves[first - 1, :2].norm()
            sideways = bool(beside > _BESIDE) and bool(beside > -moves[first - 1, 2])
        return plan.energy * (1.0 + _HANDICAP * (later + sideways))

    def without_waiting(self, actions: Tensor) -> Tensor:
        """The same actions [H, 7], those that do next to nothing at the start put to the end."""
        axes = self._space.searched(actions)
        idle = (axes.abs() < _IDLE * self._space.bounds).all(1)
        waits = int((~idle).int().argmax()) if not idle.all() else 0
        return torch.cat([actions[waits:], torch.zeros_like(actions[:waits])])

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
        dimensions: int,
        below: bool,
    ) -> None:
        self._dimensions = dimensions
        super().__init__(objective, space, generator)
        self._skeleton = skeleton
        self._below = _BELOW if below else ()
        self._rest = self.start = np.zeros(self.dimensions)
        self.points = np.empty((0, self.dimensions))

    @property
    def dimensions(self) -> int:
        """Of a point of the skeleton."""
        return self._dimensions

    def begin(self, count: int) -> None:
        """Evaluate about `count` points: no motion, ends straight below, evenly spread ones."""
        below = np.zeros((min(len(self._below), max(0, count - 2)), self.dimensions))
        if len(below):
            below[:, 2] = self._below[: len(below)]
        spread = self.spread(max(1, count - len(below) - 1))
        self.evaluate(np.vstack([self._rest, below, spread]))

    def evaluate(self, points: np.ndarray) -> np.ndarray:
        """Energies [S] of points [S, F], recorded with these points."""
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
