# SPDX-License-Identifier: Apache-2.0
"""The hand holds an object and carries it to the pose that a picture shows."""

from __future__ import annotations

import numpy as np

from vjepa2_ros.simulation.simulator import OBJECTS, Simulator
from vjepa2_ros.tasks.outcome import SUCCESS_DISTANCE, Outcome, cause_of
from vjepa2_ros.tasks.starts import draw_place, start_free
from vjepa2_ros.tasks.task import Episode, TaskOptions
from vjepa2_ros.tasks.teacher import CARRY, Teacher
from vjepa2_ros.tasks.truth import Trace

HEIGHTS = 0.07, 0.16
"""Least and largest height of the goal over the grasp on the table [m]."""


class ReachWithObject:
    """Success: at the end the object is held, within 4 cm of where the picture shows it.

    One picture in either protocol.
    """

    description = "the hand holds an object and carries it to the pose that a picture shows"
    objects = OBJECTS
    pictures = 1

    def draw(
        self, simulator: Simulator, random: np.random.Generator, options: TaskOptions
    ) -> Episode:
        """See `Task`."""
        start_free(simulator, random)
        place = draw_place(simulator, options.object, random)
        teacher = Teacher(simulator, options)
        teacher.grasp_object()
        teacher.lift(CARRY)
        start = simulator.snapshot()
        teacher.lift(random.uniform(*HEIGHTS) - CARRY)
        teacher.move(np.append(place, simulator.pose()[0][2]))
        picture = teacher.picture("the object at the goal", "close", 10)
        return Episode(simulator.seed, options.object, start, (picture,), teacher.object_position)

    def outcome(self, episode: Episode, trace: Trace, refused: bool) -> Outcome:
        """See `Task`."""
        index = episode.object_index
        distance = float(np.linalg.norm(trace.objects[-1, index] - episode.target))
        if trace.held[-1, index] and distance <= SUCCESS_DISTANCE:
            return Outcome(True, distance)
        return Outcome(False, distance, cause_of(trace, index, episode.target, refused))


TASK = ReachWithObject()
