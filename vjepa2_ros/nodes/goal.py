# SPDX-License-Identifier: Apache-2.0
"""A goal on its way from the service call to its end, as the planner node keeps it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from vjepa2_ros.msg import PlanningStatus
from vjepa2_ros.planning.receding_horizon import RecedingHorizon, Step

STATE_NAMES = {
    value: name
    for name in dir(PlanningStatus)
    if name.isupper() and isinstance(value := getattr(PlanningStatus, name), int)
}
"""Names of the states of PlanningStatus by number."""
TERMINAL = frozenset(
    {
        PlanningStatus.REACHED,
        PlanningStatus.STEP_LIMIT,
        PlanningStatus.CANCELLED,
        PlanningStatus.STOPPED,
        PlanningStatus.FAILED,
        PlanningStatus.REPLACED,
    }
)
"""States from which a goal does not return."""


@dataclass
class Goal:
    """One goal and how far it has come.

    not_before: images captured earlier [s] show the robot before its last step and are not
        planned from. deadline: when to plan on although the robot has not reported the end of its
        step [steady s]. setbacks: commands in a row that came to nothing.
    """

    goal_id: str
    loop: RecedingHorizon
    subgoals: int
    not_before: float
    state: int = PlanningStatus.WAITING
    message: str = "waiting for an image"
    deadline: float = math.inf
    setbacks: int = 0
    step: Step | None = None
    observation_age: float = 0.0
    encode_seconds: float = 0.0
    command_latency: float = 0.0

    def status(self) -> PlanningStatus:
        """Status message without its header."""
        step = self.step
        return PlanningStatus(
            goal_id=self.goal_id,
            state=self.state,
            subgoal=step.subgoal if step else 0,
            subgoals=self.subgoals,
            step=step.step if step else 0,
            energy=step.energy if step else math.nan,
            predicted_energy=step.predicted_energy if step else math.nan,
            observation_age=self.observation_age,
            encode_seconds=self.encode_seconds,
            plan_seconds=step.plan_seconds if step else 0.0,
            command_latency=self.command_latency,
            message=self.message,
        )


@dataclass(frozen=True)
class Observation:
    """What a plan is made from: a latent [N, D], the state [7] measured with it, and its stamp."""

    goal: Goal
    latent: object
    state: object
    stamp: float
    base_frame: str
    age: float
    encode_seconds: float = field(default=0.0)
