# SPDX-License-Identifier: Apache-2.0
"""The loop round the planner: plan, take the first action, look again, sub-goal by sub-goal.

A pure state machine, stepped with one observation at a time, shared by
evaluation and the planner node.  As in the paper, sub-goals follow each other
after a fixed number of steps, whether they are reached or not.  What the paper
has not is `patience`: the last sub-goal may end early, where the planner
predicts no improvement any more.  That is an expectation, no detector of success.
"""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vjepa2_ros.planning.action_space import ActionSpace, Workspace
from vjepa2_ros.planning.objective import COSTS, LatentDistance, distance
from vjepa2_ros.planning.planner import Plan, Planner, evaluate
from vjepa2_ros.world_model.poses import compose, difference
from vjepa2_ros.world_model.predictor import KVCache
from vjepa2_ros.world_model.world_model import WorldModel

GRIPPER_SCRIPT = ("planned", "open", "hold", "close")


@dataclass(frozen=True)
class RecedingHorizonSettings:
    """steps_per_subgoal: steps towards each sub-goal, one number per goal.

    space: what the planner may choose from.
    workspace: lower and upper corner of the box (x, y, z in m, base frame) that no target leaves
        (None: no box). Beyond what a robot ever did, the model's imagination cannot be trusted.
    context: frames that the model sees: the present one and those of the steps before it.
    gripper: what the gripper does towards each sub-goal, one of `GRIPPER_SCRIPT` per goal: what is
        planned, or what the script says: open fully, keep what it was told last, close fully
        (empty: planned for each).
    cost: see `LatentDistance`.
    memory_budget: bytes that imagining may take, see `WorldModel.sequences_within`.
    patience: stop at the last sub-goal after this many steps in a row for which the
        planner predicts no improvement (None: never stop early).
    min_improvement: the predicted relative fall in energy that counts as one, 0 to below 1.
    seed: of the planner's samples.
    Raises ValueError on values that make no sense.
    """

    steps_per_subgoal: Sequence[int]
    space: ActionSpace = ActionSpace()
    workspace: tuple[Sequence[float], Sequence[float]] | None = None
    context: int = 1
    gripper: Sequence[str] = ()
    cost: str = "l1"
    memory_budget: int | None = None
    patience: int | None = None
    min_improvement: float = 0.0
    seed: int = 0

    def __post_init__(self):
        if not self.steps_per_subgoal or min(self.steps_per_subgoal) < 1:
            raise ValueError(
                "steps_per_subgoal must be numbers of at least 1,"
                f" got {list(self.steps_per_subgoal)}"
            )
        if self.context < 1:
            raise ValueError(f"context must be at least 1, got {self.context}")
        if self.workspace is not None and not np.all(np.less(*self.workspace)):
            raise ValueError(
                f"workspace must have its lower corner below its upper one, got {self.workspace}"
            )
        if not set(self.gripper) <= set(GRIPPER_SCRIPT):
            raise ValueError(
                f"the gripper may be {', '.join(GRIPPER_SCRIPT)}, got {', '.join(self.gripper)}"
            )
        if self.gripper and len(self.gripper) != len(self.steps_per_subgoal):
            raise ValueError(
                f"the gripper is scripted for {len(self.gripper)} sub-goals of"
                f" {len(self.steps_per_subgoal)}"
            )
        if self.space.workspace is not None:
            raise ValueError("give the workspace to the loop: it moves with the robot")
        if self.memory_budget is not None and self.memory_budget < 1:
            raise ValueError(f"memory_budget must be at least 1 or None, got {self.memory_budget}")
        if set(self.gripper) - {"planned"} and set(self.space.fixed_axes) >= {"x", "y", "z"}:
            raise ValueError("with the gripper scripted, fixed_axes leaves nothing to search")
        if self.cost not in COSTS:
            raise ValueError(f"unknown cost {self.cost!r}: use {' or '.join(COSTS)}")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience must be at least 1 or None, got {self.patience}")
        if not 0 <= self.min_improvement < 1:
            raise ValueError(
                f"min_improvement must be at least 0 and below 1, got {self.min_improvement}"
            )


@dataclass(frozen=True)
class Step:
    """One decision.

    action [7] and target_state [7] (absolute, base frame) are what to do now, float32 on the CPU.
        Rotation is not planned: every target has that of the first observation, so that what the
        robot misses of it, at a contact say, does not add up from step to step. Without a change
        of the gripper the target keeps the closedness of the target before.
    energy: distance of the present latent to the current sub-goal.
    predicted_energy: the same after the planned actions, as imagined.
    subgoal: number of the current sub-goal, from 0.  step: number of this step, from 1.
    finished: None while the loop goes on; "step_limit" with the last step, whose
        action is still to be taken; "reached" when it stops itself, with a zero
        action that holds the present state.
    plan_seconds: time the planner took.
    """

    action: Tensor
    target_state: Tensor
    energy: float
    predicted_energy: float
    subgoal: int
    step: int
    finished: Literal["reached", "step_limit"] | None
    plan_seconds: float


class RecedingHorizon:
    """A run through sub-goals.

    goals: latents [G, N, D] of the sub-goal images, in order.
    Raises ValueError where goals, settings and model do not fit each other.
    """

    def __init__(
        self,
        planner: Planner,
        world_model: WorldModel,
        goals: Tensor,
        settings: RecedingHorizonSettings,
    ):
        if goals.dim() != 3 or goals.shape[1:] != world_model.latent_shape:
            raise ValueError(
                f"goals have shape {list(goals.shape)},"
                f" wanted [G, {', '.join(map(str, world_model.latent_shape))}]"
            )
        if not goals.isfinite().all():
            raise ValueError("a goal latent holds values that are not finite")
        longest = world_model.predictor.config.max_frames
        if settings.context - 1 + settings.space.horizon > longest:
            raise ValueError(
                f"context {settings.context} and horizon {settings.space.horizon} are together"
                f" more than the model's {longest} frames"
            )
        if len(settings.steps_per_subgoal) != len(goals):
            raise ValueError(f"{len(goals)} goals, but steps for {len(settings.steps_per_subgoal)}")
        self.planner = planner
        self.world_model = world_model
        self.goals = goals.to(world_model.device)
        self.settings = settings
        self.finished: Literal["reached", "step_limit"] | None = None
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._steps = 0
        self._steps_in_subgoal = 0
        self._subgoal = 0
        self._without_improvement = 0
        self._rest: Tensor | None = None
        self._rotation: Tensor | None = None
        self._closedness: float | None = None
        # Latents and states of the last observations.
        self._seen: deque[tuple[Tensor, Tensor]] = deque(maxlen=settings.context)

    def step(self, latent: Tensor, state: Tensor, ahead: Tensor | None = None) -> Step:
        """Decide on an observation: its latent [N, D] and the robot's state [7].

        ahead: state [7] where a robot under way will be when the decision is carried out. The model
        imagines the way there, and the plan starts from what it sees at its end.

        Raises ValueError on another shape or values that are not finite, with
        nothing counted, and RuntimeError once finished.
        """
        if self.finished:
            raise RuntimeError(f"the loop has finished ({self.finished}): set a new goal")
        self._check("latent", latent, self.world_model.latent_shape)
        self._check("state", state, (7,))
        latent = latent.to(self.world_model.device)
        state = state.detach().to("cpu", torch.float32)
        goal = self.goals[self._subgoal]
        if ahead is not None:
            self._check("ahead", ahead, (7,))
            ahead = ahead.detach().to("cpu", torch.float32)

        started = time.perf_counter()
        energy = float(distance(latent, goal, self.settings.cost))
        self._seen.append((latent, state))
        frames = list(self._seen)
        if ahead is not None:
            way = difference(state, ahead)[None, None]
            imagined = self.world_model.rollout(latent, state, way, past=self._memory(frames))
            state = ahead
            frames.append((imagined[0], state))
            # A frame more than usual: where that is too many, the oldest goes.
            longest = self.world_model.predictor.config.max_frames
            frames = frames[-(longest - self.settings.space.horizon + 1) :]
        chunk = self.world_model.sequences_within(
            self.settings.memory_budget, self.settings.space.horizon, len(frames)
        )
        objective = LatentDistance(
            self.world_model, *frames[-1], goal, self.settings.cost, chunk, self._memory(frames)
        )
        plan = self._plan(objective, self._space(state))
        plan_seconds = time.perf_counter() - started
        # What is left of the plan starts the next search; of a single action nothing is.
        self._rest = (
            torch.cat([plan.actions[1:], torch.zeros(1, 7)]) if len(plan.actions) > 1 else None
        )

        subgoal = self._subgoal
        improves = plan.energy < energy * (1.0 - self.settings.min_improvement)
        # A gripper that is scripted has to move before a sub-goal can be reached.
        self._advance(improves or (self._is_scripted and self._steps_in_subgoal == 0))
        action = torch.zeros(7) if self.finished == "reached" else plan.actions[0]
        target = self._target(state, action)
        return Step(
            action=action,
            target_state=target,
            energy=energy,
            predicted_energy=plan.energy,
            subgoal=subgoal,
            step=self._steps,
            finished=self.finished,
            plan_seconds=plan_seconds,
        )

    def _plan(self, objective: LatentDistance, space: ActionSpace) -> Plan:
        """A plan that keeps to the workspace, whatever the planner makes of it."""
        plan = self.planner.plan(objective, space, self._generator, self._rest)
        if space.workspace is None:
            return plan
        inside = plan.actions.clone()
        inside[:, :3] = space.workspace.inside(inside[:, :3], space.max_translation)
        if torch.allclose(inside, plan.actions, atol=1e-6):
            return plan
        energy = float(evaluate(objective, inside[None])[0])
        return replace(plan, actions=inside, energy=energy, evaluations=plan.evaluations + 1)

    def _target(self, state: Tensor, action: Tensor) -> Tensor:
        """State [7] to command: the rotation of the beginning, and a grip that does not loosen."""
        target = compose(state, action)
        if self._rotation is None:
            self._rotation = state[3:6].clone()
        target[3:6] = self._rotation
        # Round an object the fingers stand wider than they were told; told that, they would let go.
        if action[6] == 0 and self._closedness is not None:
            target[6] = self._closedness
        self._closedness = float(target[6])
        return target

    @property
    def _is_scripted(self) -> bool:
        return bool(self.settings.gripper) and self.settings.gripper[self._subgoal] != "planned"

    def _space(self, state: Tensor) -> ActionSpace:
        """What may be chosen from at a state [7]: inside the workspace, the gripper as scripted."""
        space = self.settings.space
        if self.settings.workspace is not None:
            lower, upper = (
                torch.tensor(corner, dtype=torch.float32) for corner in self.settings.workspace
            )
            space = replace(space, workspace=Workspace(state[:3], lower, upper))
        if not self._is_scripted:
            return space
        closedness = float(state[6])
        changes = {"open": -closedness, "hold": 0.0, "close": 1.0 - closedness}
        change = changes[self.settings.gripper[self._subgoal]]
        scripted = [change] + [0.0] * (space.horizon - 1)
        fixed = {**space.fixed_axes, "gripper": scripted}
        return replace(space, fixed_axes=fixed, close_gripper_from=None)

    def _memory(self, frames: list[tuple[Tensor, Tensor]]) -> KVCache | None:
        """Of all frames before the last one, and of what led from each to the next."""
        if len(frames) < 2:
            return None
        latents, states = (torch.stack(part) for part in zip(*frames, strict=True))
        actions = difference(states[:-1], states[1:])
        return self.world_model.prefill(latents[:-1], states[:-1], actions)

    def _advance(self, improves: bool) -> None:
        """Count the step, then move to the next sub-goal or the end where it is time."""
        self._steps += 1
        self._steps_in_subgoal += 1
        self._without_improvement = 0 if improves else self._without_improvement + 1
        last = self._subgoal == len(self.goals) - 1
        if last and self.settings.patience and self._without_improvement >= self.settings.patience:
            self.finished = "reached"
        elif self._steps_in_subgoal >= self.settings.steps_per_subgoal[self._subgoal]:
            if last:
                self.finished = "step_limit"
            else:
                self._subgoal += 1
                self._steps_in_subgoal = 0
                self._without_improvement = 0
                self._rest = None

    @staticmethod
    def _check(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
        if value.shape != shape:
            raise ValueError(f"{name} has shape {list(value.shape)}, wanted {list(shape)}")
        if not value.isfinite().all():
            raise ValueError(f"{name} holds values that are not finite")
