# SPDX-License-Identifier: Apache-2.0
"""What goal execution reports: the state of a goal, why, and the figures of its last step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

from vjepa2_ros.robot.reason import Reason


class GoalState(IntEnum):
    """States of a goal; the values are those of `msg/PlanningStatus.msg`."""

    IDLE = 1
    WAITING = 2
    PLANNING = 3
    MOVING = 4
    REACHED = 5
    STEP_LIMIT = 6
    CANCELLED = 7
    STOPPED = 8
    FAILED = 9
    REPLACED = 10

    @property
    def is_over(self) -> bool:
        """True for the states that a goal does not leave."""
        return self >= GoalState.REACHED


TERMINAL = frozenset(state for state in GoalState if state.is_over)
"""The states that a goal does not leave; also holds for the plain numbers of messages."""


@dataclass(frozen=True)
class Note:
    """A reason with its sentence."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class GoalStatus:
    """A goal at one moment; the defaults describe a planner without a goal.

    Attributes:
        goal_id: name of the goal, empty without one.
        state: what is done for it.
        reason: why the state is what it is.
        message: the same in a sentence, with the numbers and what to do about it.
        subgoal: sub-goal of the last step, from 0.
        subgoals: number of sub-goals.
        step: steps planned so far, over all sub-goals.
        energy: distance of the last observation's latent to the sub-goal's, NaN before a plan.
        predicted_energy: the same as predicted for after the step.
        surprise: distance of the last observation's latent to the one predicted from the
            observation before, NaN before the second plan.
        observation_age: age of the observation when planning from it began [s].
        encode_seconds: time the encoder took for it [s].
        plan_seconds: time the search took [s].
        command_latency: from the capture of the image to the command [s].
    """

    goal_id: str = ""
    state: GoalState = GoalState.IDLE
    reason: Reason = Reason.NO_GOAL
    message: str = "no goal"
    subgoal: int = 0
    subgoals: int = 0
    step: int = 0
    energy: float = math.nan
    predicted_energy: float = math.nan
    surprise: float = math.nan
    observation_age: float = 0.0
    encode_seconds: float = 0.0
    plan_seconds: float = 0.0
    command_latency: float = 0.0
