# SPDX-License-Identifier: Apache-2.0
"""A record of one run of the stack, in plain numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vjepa2_ros.tasks.truth import Truth


@dataclass(frozen=True)
class Progress:
    """One status of the planner; times in seconds, energies without unit.

    Attributes:
        time: when it was received.
        state: name of the state.
        over: whether the goal is over.
        step: number of the step, from 1 (0 before the first).
        subgoal: number of the sub-goal of the last step, from 0.

    The other attributes are those of the PlanningStatus message.
    """

    time: float
    goal_id: str
    state: str
    over: bool
    step: int
    subgoal: int
    energy: float
    predicted_energy: float
    observation_age: float
    encode_seconds: float
    plan_seconds: float
    command_latency: float
    message: str


@dataclass
class Record:
    """Everything in the order of arrival, with times [s] of the recording machine's clock.

    Attributes:
        progress: every status.
        images: capture time and image uint8 RGB [height, width, 3].
        positions: time of measurement and tool centre point [3] in metres.
        states: time of measurement, state [7] as measured, and the closedness that the gripper was
            told last (NaN where the driver does not know).
        targets: capture time of the image that a command comes from, and its target state [7].
        truths: what was true in the simulated cell, with the times of the stamps.
        latents, commands: capture time of the image that it comes from, and time of arrival.
        renderings: time of the report, and the time that rendering an image took, once a second.
        refused: goals of which the controller refused a command.
        moving: whether the robot was moving last.
        planner_ready: whether the planner has received a latent.
    """

    progress: list[Progress] = field(default_factory=list)
    images: list[tuple[float, np.ndarray]] = field(default_factory=list)
    positions: list[tuple[float, np.ndarray]] = field(default_factory=list)
    states: list[tuple[float, np.ndarray, float]] = field(default_factory=list)
    targets: list[tuple[float, np.ndarray]] = field(default_factory=list)
    truths: list[Truth] = field(default_factory=list)
    latents: list[tuple[float, float]] = field(default_factory=list)
    commands: list[tuple[float, float]] = field(default_factory=list)
    renderings: list[tuple[float, float]] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    moving: bool = False
    planner_ready: bool = False

    def of_goal(self, goal_id: str) -> list[Progress]:
        """Statuses of one goal."""
        return [progress for progress in list(self.progress) if progress.goal_id == goal_id]

    def steps(self, goal_id: str) -> list[Progress]:
        """The first status of each planned step of a goal, in order."""
        steps: dict[int, Progress] = {}
        for progress in self.of_goal(goal_id):
            if progress.step > 0:
                steps.setdefault(progress.step, progress)
        return list(steps.values())
