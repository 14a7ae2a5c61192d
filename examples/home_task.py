# SPDX-License-Identifier: Apache-2.0
"""A task: move the hand from anywhere to the same place, high above the middle of the table.

Evaluate it in closed loop, from this folder; all options of `vjepa2-ros evaluate` apply:

    PYTHONPATH=. ../.venv/bin/vjepa2-ros evaluate --task home_task:TASK --episodes 5

One inside the package is a file like this one in vjepa2_ros/tasks/library, and has its name.
"""

from __future__ import annotations

import numpy as np

from vjepa2_ros.simulation.simulator import DOWN, Simulator
from vjepa2_ros.tasks.outcome import SUCCESS_DISTANCE, Cause, Outcome
from vjepa2_ros.tasks.task import Episode, SubGoal, TaskOptions
from vjepa2_ros.tasks.truth import Trace

HOME = np.array([0.50, 0.0, 0.30])
"""Goal of the tool centre point [m], base frame."""


class Home:
    """Success: the hand is within 4 cm of the place at the end."""

    description = "the hand moves to a place above the middle of the table"
    objects = ()

    def draw(
        self, simulator: Simulator, random: np.random.Generator, options: TaskOptions
    ) -> Episode:
        """See `vjepa2_ros.tasks.task.Task`."""
        start = simulator.snapshot()
        simulator.place(HOME, DOWN, 0.0)
        image = simulator.render(options.image_size)
        picture = SubGoal("home", image, simulator.pose()[0], 0.0, gripper="hold", steps=15)
        return Episode(simulator.seed, None, start, (picture,), HOME)

    def outcome(self, episode: Episode, trace: Trace, refused: bool) -> Outcome:
        """See `vjepa2_ros.tasks.task.Task`."""
        distance = float(np.linalg.norm(trace.hand[-1] - episode.target))
        if distance <= SUCCESS_DISTANCE:
            return Outcome(True, distance)
        return Outcome(False, distance, Cause.REFUSED if refused else Cause.OUT_OF_TIME)


TASK = Home()
