# SPDX-License-Identifier: Apache-2.0
"""A goal in execution, and the request for it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vjepa2_ros.execution.goal_status import GoalState, GoalStatus
from vjepa2_ros.planning.receding_horizon import RecedingHorizon
from vjepa2_ros.planning.step import Step
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.settings.planning import ExecutionSettings


@dataclass(frozen=True)
class GoalTicket:
    """When a goal was requested.

    The controller may halt while the goal's images are being encoded, and a report of a halt may
    arrive after the request although the halt came before it. Only a halt at or after `stamp` that
    is not among the `halts` ends the goal.

    Attributes:
        stamp: time of the request [s, the clock of the stamps].
        halts: of the newest robot report at that time.
    """

    stamp: float
    halts: int


@dataclass
class Goal:
    """One goal and its progress.

    Attributes:
        goal_id: name of the goal.
        loop: decides the steps; holds the goal's latents.
        ticket: when it was requested.
        settings: those of the time when it was started.
        max_translation: bound of one action on each axis [m].
        not_before: images captured up to then show the robot before its last step, and are not
            planned from [s].
        state, reason, message: see `GoalStatus`.
        deadline: when the step counts as over although the robot has not reported its end [s,
            steady].
        sequence: number of the last command; they count from 1 in each goal, since the gate takes
            no goal that begins with a large one.
        setbacks: consecutive commands without effect.
        planning: whether a plan is being made.
        commanded: time of the last command [s].
        target: position [3] that it named [m]; None before the first.
        step: the last step planned.
        observation_age, encode_seconds, command_latency: see `GoalStatus`.
    """

    goal_id: str
    loop: RecedingHorizon
    ticket: GoalTicket
    settings: ExecutionSettings
    max_translation: float
    not_before: float
    state: GoalState = GoalState.WAITING
    reason: Reason = Reason.WAITING_FOR_IMAGE
    message: str = "waiting for an image"
    deadline: float = math.inf
    sequence: int = 0
    setbacks: int = 0
    planning: bool = False
    commanded: float = -math.inf
    target: np.ndarray | None = None
    step: Step | None = None
    observation_age: float = 0.0
    encode_seconds: float = 0.0
    command_latency: float = 0.0

    def accepts_image_of(self, stamp: float) -> bool:
        """Whether an image captured at `stamp` [s] shows the robot after its last step."""
        return stamp > max(self.not_before, self.commanded)

    def status(self) -> GoalStatus:
        """The goal as it is now."""
        step = self.step
        return GoalStatus(
            goal_id=self.goal_id,
            state=self.state,
            reason=self.reason,
            message=self.message,
            subgoal=step.subgoal if step else 0,
            subgoals=len(self.loop.goals),
            step=step.step if step else 0,
            energy=step.energy if step else math.nan,
            predicted_energy=step.predicted_energy if step else math.nan,
            surprise=step.surprise if step else math.nan,
            observation_age=self.observation_age,
            encode_seconds=self.encode_seconds,
            plan_seconds=step.plan_seconds if step else 0.0,
            command_latency=self.command_latency,
        )
