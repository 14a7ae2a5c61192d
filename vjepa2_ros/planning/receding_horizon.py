# SPDX-License-Identifier: Apache-2.0
"""The receding-horizon loop: plan, take the first action, observe again, sub-goal by sub-goal.

A pure state machine, stepped with one observation at a time. As in the paper, sub-goals follow each
other after a fixed number of steps, whether they are reached or not. Three things are ours:

- `patience`: the last sub-goal may end early, where the energy no longer falls or is not
  predicted to (with `hold_unless_better`: is not predicted to). That is no detector of success.
- `switch`: each sub-goal may end so, or where the model's success probe sees it reached.
- `offset_free`: the error of the prediction at rest is measured before each plan and subtracted, as
  offset-free model predictive control does with a disturbance (Pannocchia and Rawlings, AIChE
  Journal 49, 2003). Otherwise the hand comes to rest beside the goal, where the error is smallest.
"""

import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.planning.candidates import RecordedDistance
from vjepa2_ros.planning.objective import LatentDistance, distance, state_distance
from vjepa2_ros.planning.planner import Plan, Planner, evaluate
from vjepa2_ros.planning.step import Step
from vjepa2_ros.planning.surprise import surprise
from vjepa2_ros.settings.cell import Workspace
from vjepa2_ros.settings.planning import (
    GRIPPER_WORDS,
    PLANNED,
    TRANSLATION_AXES,
    ActionSettings,
    LoopSettings,
    PlannerNodeSettings,
)
from vjepa2_ros.world_model.parts import SUCCESS
from vjepa2_ros.world_model.poses import compose, difference
from vjepa2_ros.world_model.predictor import KVCache
from vjepa2_ros.world_model.world_model import WorldModel


class RecedingHorizon:
    """A run through the sub-goals of one goal.

    Args:
        planner: searches the first action of each step.
        world_model: encodes nothing here, and predicts what actions lead to.
        goals: latents [G, N, D] of the sub-goal images, in order.
        action: what plans may consist of.
        loop: cost, context, early end and the default number of steps.
        workspace: box that no target leaves (None: no box); predictions outside it are unreliable.
        steps: towards each sub-goal (empty: `loop.steps_per_subgoal` for each).
        gripper: one of `GRIPPER_WORDS` for each sub-goal (empty: "planned" for each).
        states: of the robot in the sub-goal images [G, 7]; needed with `loop.state_weight`.

    Attributes:
        keeps_candidates: whether steps hold what the search looked at, for those who watch.
        objective: of the last step; None before the first.

    Raises:
        ValueError: goals, settings and model do not fit each other.
    """

    def __init__(
        self,
        planner: Planner,
        world_model: WorldModel,
        goals: Tensor,
        action: ActionSettings,
        loop: LoopSettings,
        workspace: Workspace | None = None,
        steps: Sequence[int] = (),
        gripper: Sequence[str] = (),
        states: Tensor | None = None,
    ):
        if goals.dim() != 3 or goals.shape[1:] != world_model.latent_shape:
            raise ValueError(
                f"goals have shape {list(goals.shape)},"
                f" wanted [G, {', '.join(map(str, world_model.latent_shape))}]"
            )
        if not goals.isfinite().all():
            raise ValueError("a goal latent holds values that are not finite")
        longest = world_model.predictor.config.max_frames
        if loop.context - 1 + action.horizon > longest:
            raise ValueError(
                f"context {loop.context} and horizon {action.horizon} are together"
                f" more than the model's {longest} frames"
            )
        if loop.context > 1 and world_model.predictor.config.window:
            raise ValueError(
                f"context {loop.context} is of no use to {world_model.name}: its predictions"
                f" attend to {world_model.predictor.config.window} latents; set context to 1"
            )
        check_switch(loop, world_model)
        if states is not None and (states.shape != (len(goals), 7) or not states.isfinite().all()):
            raise ValueError(
                f"the states of the goal must be finite numbers [{len(goals)}, 7], got shape "
                f"{list(states.shape)}"
            )
        if loop.state_weight > 0 and states is None:
            raise ValueError(
                "state_weight needs the state of the robot in each goal image: give the goal its "
                "states, or set state_weight to 0"
            )
        self.states = None if states is None else states.detach().to("cpu", torch.float32)
        self.steps = tuple(steps) or (loop.steps_per_subgoal,) * len(goals)
        self.gripper = tuple(gripper) or (PLANNED,) * len(goals)
        _check_script(len(goals), self.steps, self.gripper, action)
        self.planner = planner
        self.world_model = world_model
        self.goals = goals.to(world_model.device)
        self.action = action
        self.loop = loop
        self.workspace = workspace
        self.keeps_candidates = False
        self.objective: LatentDistance | None = None
        self.finished: Literal["reached", "step_limit"] | None = None
        self._generator = torch.Generator().manual_seed(loop.seed)
        self._steps = 0
        self._steps_in_subgoal = 0
        self._subgoal = 0
        self._without_improvement = 0
        # Of the observations of the present sub-goal.
        self._least_energy = math.inf
        self._rest: Tensor | None = None
        self._rotation: Tensor | None = None
        self._closedness: float | None = None
        # Latents and states of the last observations.
        self._seen: deque[tuple[Tensor, Tensor]] = deque(maxlen=loop.context)

    @property
    def subgoal(self) -> int:
        """Number of the current sub-goal, from 0."""
        return self._subgoal

    def step(
        self,
        latent: Tensor,
        state: Tensor,
        ahead: Tensor | None = None,
        commanded_closedness: float | None = None,
    ) -> Step:
        """Decide on an observation.

        Args:
            latent: of the image [N, D].
            state: of the robot at its time [7].
            ahead: state [7] of a robot in motion when the decision is expected to be executed. The
                model predicts the latent there, and the plan starts from it.
            commanded_closedness: what the gripper was told last, where the robot knows. A goal that
                begins with an object in the hand holds it by this; told the measured closedness,
                the fingers would let go.

        Raises:
            ValueError: a shape differs, or a value is not finite; nothing is counted then.
            ValueError: the planner returns what is no plan.
            RuntimeError: the loop has finished.
        """
        if self.finished:
            raise RuntimeError(f"the loop has finished ({self.finished}): set a new goal")
        self._check("latent", latent, self.world_model.latent_shape)
        self._check("state", state, (7,))
        latent = latent.to(self.world_model.device)
        state = state.detach().to("cpu", torch.float32)
        if self._closedness is None:
            self._closedness = commanded_closedness
        if ahead is not None:
            self._check("ahead", ahead, (7,))
            ahead = ahead.detach().to("cpu", torch.float32)

        started = time.perf_counter()
        answers = self._follow_what_is_seen(latent)
        goal = self.goals[self._subgoal]
        goal_state = self.states[self._subgoal] if self.states is not None else None
        energy = float(distance(latent, goal, self.loop.cost))
        if self.loop.state_weight and goal_state is not None:
            with_gripper = not self.world_model.predictor.config.commanded_gripper
            energy += self.loop.state_weight * float(
                state_distance(state, goal_state, self.loop.cost, with_gripper)
            )
        surprised = self._surprise(latent, state)
        self._seen.append((latent, state))
        if self._subgoal == len(self.goals) - 1 and self._is_seen(answers):
            return self._seen_reached(state, energy, surprised, started, answers)
        frames = list(self._seen)
        if ahead is not None:
            way = difference(state, ahead)[None, None]
            predicted = self.world_model.rollout(latent, state, way, past=self._past(frames))
            state = ahead
            frames.append((predicted[0], state))
            # A frame more than usual: where that is too many, the oldest goes.
            longest = self.world_model.predictor.config.max_frames
            frames = frames[-(longest - self.action.horizon + 1) :]
        chunk = self.world_model.sequences_within(
            self.loop.memory_bytes,
            self.action.horizon,
            len(frames),
            every_step=self.loop.path_weight > 0 or self.loop.variance_weight > 0,
        )
        past = self._past(frames)
        offset = self._drift(*frames[-1], past) if self.loop.offset_free else None
        objective = LatentDistance(
            self.world_model,
            *frames[-1],
            goal,
            self.loop.cost,
            chunk,
            past,
            offset,
            self.loop.path_weight,
            self.loop.variance_weight,
            goal_state,
            self.loop.state_weight,
        )
        word = self.gripper[self._subgoal]
        commanded = self.world_model.predictor.config.commanded_gripper
        space = ActionSpace.at(state, self.action, self.workspace, word, commanded)
        recorded = RecordedDistance(objective) if self.keeps_candidates else None
        plan = self._plan(recorded or objective, space)
        self.objective = objective
        plan_seconds = time.perf_counter() - started
        # What is left of the plan starts the next search; of a single action nothing is.
        self._rest = (
            torch.cat([plan.actions[1:], torch.zeros(1, 7)]) if len(plan.actions) > 1 else None
        )

        subgoal = self._subgoal
        evaluations = plan.evaluations + int(self.loop.offset_free)
        still = energy
        if objective.rates_variance:
            # What does not move stays, whatever the variance of doing nothing is said to be: that
            # much is the network's own, in every plan.
            still = float(evaluate(objective, torch.zeros_like(plan.actions)[None])[0])
            evaluations += 1
        promising = plan.energy < still * (1.0 - self.loop.min_improvement)
        # A way may lead through higher energies: to what is grasped, before it is lifted.
        falls = self.loop.hold_unless_better or energy < self._least_energy
        improves = promising and falls
        self._least_energy = min(energy, self._least_energy)
        # A scripted gripper has to move before a sub-goal can be reached.
        scripted = word != PLANNED or self.action.gripper.mode in ("open", "close")
        self._advance(improves or (scripted and self._steps_in_subgoal == 0))
        holds = self.finished == "reached" or (
            self.loop.hold_unless_better and not promising and not scripted
        )
        if holds:
            self._rest = None
        action = torch.zeros(7) if holds else plan.actions[0].clone()
        if space.closing is not None and self.finished != "reached":
            # The plan says how far the fingers will get; they are told to close.
            action[6] = space.closing
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
            evaluations=evaluations,
            planned=plan.actions,
            surprise=surprised,
            candidates=recorded.candidates() if recorded is not None else None,
            answers=answers,
        )

    def _follow_what_is_seen(self, latent: Tensor) -> dict[str, float]:
        """Go on to the first sub-goal that is not seen reached, or to the last one.

        A sub-goal that opens or closes the gripper is not left before its first command: whether a
        hand has let go may not be seen.

        Returns:
            Answers of the success probe for that one; none where it is not asked.

        Raises:
            ValueError: an answer is no number.
        """
        if self.loop.switch != "probe":
            return {}
        while True:
            answers = self.world_model.success(latent, self.goals[self._subgoal])
            if not all(map(math.isfinite, answers.values())):
                raise ValueError(f"the success probe answers no numbers: {answers}")
            is_last = self._subgoal == len(self.goals) - 1
            if is_last or not self._is_seen(answers):
                return answers
            self._next_subgoal()

    def _plan(self, objective: LatentDistance, space: ActionSpace) -> Plan:
        """A plan that keeps to the workspace, for any plan of the planner.

        Raises:
            ValueError: it is no plan: of another shape, or not finite.
        """
        plan = self.planner.plan(objective, space, self._generator, self._rest)
        if plan.actions.shape != (self.action.horizon, 7):
            raise ValueError(
                f"the planner's actions have shape {list(plan.actions.shape)}, wanted "
                f"[{self.action.horizon}, 7]"
            )
        # Policies that evaluate nothing have no energy to name.
        named = math.isfinite(plan.energy) or (math.isnan(plan.energy) and plan.evaluations == 0)
        if not (named and plan.actions.isfinite().all()):
            raise ValueError(
                f"the planner's plan is not finite: energy {plan.energy}, actions "
                f"{plan.actions.tolist()}"
            )
        if space.workspace is None:
            return plan
        inside = plan.actions.clone()
        inside[:, :3] = space.inside(inside[:, :3])
        if torch.allclose(inside, plan.actions, atol=1e-6):
            return plan
        energy = float(evaluate(objective, inside[None])[0])
        return replace(plan, actions=inside, energy=energy, evaluations=plan.evaluations + 1)

    def _target(self, state: Tensor, action: Tensor) -> Tensor:
        """State [7] to command: turned as planned, and without loosening a grip."""
        target = compose(state, action)
        if self._rotation is None:
            self._rotation = state[3:6].clone()
        if action[3:6].any():
            turned = torch.zeros(7)
            turned[3:6] = self._rotation
            self._rotation = compose(turned, action)[3:6]
        target[3:6] = self._rotation
        # Round an object the fingers stand wider than they were told; told that, they would let go.
        if action[6] == 0 and self._closedness is not None:
            target[6] = self._closedness
        self._closedness = float(target[6])
        return target

    def _surprise(self, latent: Tensor, state: Tensor) -> float:
        """See `planning.surprise`; NaN without an observation before."""
        if not self._seen:
            return math.nan
        frames = list(self._seen)
        return surprise(self.world_model, frames[-1], (latent, state), self._past(frames))

    def _past(self, frames: list[tuple[Tensor, Tensor]]) -> KVCache | None:
        """Of all frames before the last one, and of what led from each to the next."""
        if len(frames) < 2:
            return None
        latents, states = (torch.stack(part) for part in zip(*frames, strict=True))
        actions = difference(states[:-1], states[1:])
        return self.world_model.prefill(latents[:-1], states[:-1], actions)

    def _drift(self, latent: Tensor, state: Tensor, past: KVCache | None) -> Tensor:
        """What is predicted to change while nothing is done, as `LatentDistance` takes it."""
        still = torch.zeros(1, self.action.horizon, 7)
        every_step = self.loop.path_weight > 0
        predicted = self.world_model.rollout(latent, state, still, past=past, every_step=every_step)
        return predicted[0] - latent

    def _is_seen(self, answers: dict[str, float]) -> bool:
        """Whether the present sub-goal is seen reached, and may be left."""
        moves_gripper = self.gripper[self._subgoal] in ("open", "close")
        if moves_gripper and self._steps_in_subgoal == 0:
            return False
        return answers.get("reached", 0.0) >= self.loop.switch_threshold

    def _seen_reached(
        self,
        state: Tensor,
        energy: float,
        surprised: float,
        started: float,
        answers: dict[str, float],
    ) -> Step:
        """The last step, which holds: there is nothing to plan."""
        self._steps += 1
        self._rest = None
        self.finished = "reached"
        action = torch.zeros(7)
        return Step(
            action=action,
            target_state=self._target(state, action),
            energy=energy,
            predicted_energy=energy,
            subgoal=self._subgoal,
            step=self._steps,
            finished=self.finished,
            plan_seconds=time.perf_counter() - started,
            surprise=surprised,
            answers=answers,
        )

    def _advance(self, improves: bool) -> None:
        """Count the step, then move to the next sub-goal or the end where it is time."""
        self._steps += 1
        self._steps_in_subgoal += 1
        self._without_improvement = 0 if improves else self._without_improvement + 1
        last = self._subgoal == len(self.goals) - 1
        patience, switch = self.loop.patience, self.loop.switch
        stuck = bool(patience) and self._without_improvement >= patience
        if last and stuck and switch != "probe":
            self.finished = "reached"
        elif (switch == "energy" and stuck) or self._steps_in_subgoal >= self.steps[self._subgoal]:
            if last:
                self.finished = "step_limit"
            else:
                self._next_subgoal()

    def _next_subgoal(self) -> None:
        self._subgoal += 1
        self._steps_in_subgoal = 0
        self._without_improvement = 0
        self._least_energy = math.inf
        self._rest = None

    @staticmethod
    def _check(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
        if value.shape != shape:
            raise ValueError(f"{name} has shape {list(value.shape)}, wanted {list(shape)}")
        if not value.isfinite().all():
            raise ValueError(f"{name} holds values that are not finite")


def make_loop(
    settings: PlannerNodeSettings,
    planner: Planner,
    world_model: WorldModel,
    goals: Tensor,
    steps: Sequence[int] = (),
    gripper: Sequence[str] = (),
    states: Tensor | None = None,
) -> RecedingHorizon:
    """The loop that the planner node's settings describe; see `RecedingHorizon`.

    Raises:
        ValueError: as there, or the search decides when the gripper opens, and the model's states
            do not say whether it was told to close.
    """
    planned = settings.action.gripper.is_searched and PLANNED in (gripper or [PLANNED])
    planned = planned and settings.search.planner == "skeletons"
    commanded = world_model.predictor.config.commanded_gripper
    if planned and settings.action.horizon == 1:
        raise ValueError(
            "an action of the search skeletons moves either hand or gripper: raise horizon to 2 or "
            "more, or say what the gripper does"
        )
    if planned and not commanded:
        raise ValueError(
            f"the search skeletons opens the gripper if it was told to close, which the states of "
            f"{world_model.name} do not say: choose another search (latent_quadratic), or say what "
            "the gripper does"
        )
    return RecedingHorizon(
        planner,
        world_model,
        goals,
        settings.action,
        settings.loop,
        settings.execution.cell.workspace,
        steps,
        gripper,
        states,
    )


def check_switch(loop: LoopSettings, world_model: WorldModel) -> None:
    """Raise ValueError if sub-goals should end by a probe that the model does not have."""
    if loop.switch == "probe" and SUCCESS not in world_model.parts:
        raise ValueError(
            f"{world_model.name} has no part {SUCCESS}: train one with `vjepa2-ros train --probe "
            "--from CHECKPOINT`, or set switch to steps or energy"
        )


def _check_script(
    count: int, steps: Sequence[int], gripper: Sequence[str], action: ActionSettings
) -> None:
    """Raise ValueError unless there is a valid number of steps and gripper word per sub-goal."""
    if not count or len(steps) != count or min(steps) < 1:
        raise ValueError(
            f"steps must be a number of at least 1 for each of {count} goals, got {list(steps)}"
        )
    if not set(gripper) <= set(GRIPPER_WORDS):
        raise ValueError(f"the gripper may be {', '.join(GRIPPER_WORDS)}, got {', '.join(gripper)}")
    if len(gripper) != count:
        raise ValueError(f"the gripper is scripted for {len(gripper)} sub-goals of {count}")
    if set(gripper) - {PLANNED} and len(action.fixed) == len(TRANSLATION_AXES):
        raise ValueError("with the gripper scripted, fixed_axes leaves nothing to search")
