# SPDX-License-Identifier: Apache-2.0
"""One goal from its start to its end, with the truth of the simulation beside what was planned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vjepa2_ros.evaluation.record import Progress, Record
from vjepa2_ros.tasks.outcome import Outcome
from vjepa2_ros.tasks.task import Episode
from vjepa2_ros.tasks.truth import Trace


@dataclass(frozen=True)
class Run:
    """A run.

    Attributes:
        record: of the whole run.
        goal_id: name of the goal.
        task: name of the task.
        episode: what was asked for.
        trace: the truth from the start of the goal to the judgement, with times of the stamps.
        outcome: by that truth.
    """

    record: Record
    goal_id: str
    task: str
    episode: Episode
    trace: Trace
    outcome: Outcome

    @property
    def started(self) -> float:
        """Time of the first status of the goal [s]."""
        return self.record.of_goal(self.goal_id)[0].time

    @property
    def end(self) -> Progress:
        """The last status of the goal."""
        return self.record.of_goal(self.goal_id)[-1]

    @property
    def steps(self) -> list[Progress]:
        """The first status of each step."""
        return self.record.steps(self.goal_id)

    @property
    def moved(self) -> str:
        """What has to be at the target in the end: the object, or the hand."""
        return self.episode.object or "hand"

    def subgoals_at(self, times: np.ndarray) -> np.ndarray:
        """Number of the sub-goal pursued at each of some times [T] in seconds, from 0."""
        steps = self.steps
        numbers = np.array([0, *(step.subgoal for step in steps)])
        return numbers[np.searchsorted([step.time for step in steps], times, side="right")]

    def subgoal_distances(self) -> np.ndarray:
        """Distance of the hand to where the picture of the present sub-goal shows it [T] in metres,
        over the times of the trace.
        """
        hands = np.stack([subgoal.hand for subgoal in self.episode.subgoals])
        return np.linalg.norm(self.trace.hand - hands[self.subgoals_at(self.trace.time)], axis=1)

    def target_distances(self) -> np.ndarray:
        """Distance of object or hand to the target [T] in metres, over the times of the trace."""
        episode, trace = self.episode, self.trace
        places = trace.hand if episode.object is None else trace.objects[:, episode.object_index]
        return np.linalg.norm(places - episode.target, axis=1)
