# SPDX-License-Identifier: Apache-2.0
"""The hand grasps an object and lifts it."""

from __future__ import annotations

import numpy as np

from vjepa2_ros.simulation.simulator import OBJECTS, Simulator
from vjepa2_ros.tasks.outcome import HOLD_TIME, LIFT, Outcome, cause_of, lifts
from vjepa2_ros.tasks.starts import start_free
from vjepa2_ros.tasks.task import TAUGHT, Episode, SubGoal, TaskOptions
from vjepa2_ros.tasks.teacher import ABOVE, Teacher
from vjepa2_ros.tasks.truth import Trace

LIFTED = 0.08
"""Height by which the last picture shows the object lifted [m]."""


def teach_grasp(teacher: Teacher, options: TaskOptions) -> list[SubGoal]:
    """Grasp the object; the pictures on the way to it, which the paper's protocol does not have."""
    teacher.move(teacher.grasp + (0.0, 0.0, ABOVE))
    pictures = [teacher.picture("above the object", "open", 5)]
    teacher.move(teacher.grasp)
    pictures.append(teacher.picture("open at the object", "open", 4))
    teacher.close()
    pictures.append(teacher.picture("closed on the object", "close", 2))
    return pictures if options.pictures == TAUGHT else []


class Grasp:
    """Success: at the end the object is held, 3 cm above its place or more, for a second.

    Taught are four pictures: above the object, open at it, closed on it, lifted. The paper's
    protocol has the last one alone.
    """

    description = "the hand grasps an object and lifts it"
    objects = OBJECTS

    def draw(
        self, simulator: Simulator, random: np.random.Generator, options: TaskOptions
    ) -> Episode:
        """See `Task`."""
        start = start_free(simulator, random)
        teacher = Teacher(simulator, options)
        pictures = teach_grasp(teacher, options)
        teacher.lift(LIFTED)
        taught = options.pictures == TAUGHT
        pictures.append(teacher.picture("lifted", "close", 4 if taught else 14))
        target = teacher.object_position
        return Episode(simulator.seed, options.object, start, tuple(pictures), target)

    def outcome(self, episode: Episode, trace: Trace, refused: bool) -> Outcome:
        """See `Task`."""
        index = episode.object_index
        distance = float(np.linalg.norm(trace.objects[-1, index] - episode.target))
        late = trace.time >= trace.time[-1] - HOLD_TIME
        held = trace.held[late, index] & (lifts(trace, index)[late] >= LIFT)
        if held.all() and trace.time[-1] - trace.time[0] >= HOLD_TIME:
            return Outcome(True, distance)
        return Outcome(False, distance, cause_of(trace, index, episode.target, refused))


TASK = Grasp()
