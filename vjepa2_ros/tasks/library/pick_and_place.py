# SPDX-License-Identifier: Apache-2.0
"""The hand grasps an object and places it where a picture shows it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vjepa2_ros.settings.planning import PLANNED
from vjepa2_ros.simulation.simulator import GRASP_HEIGHTS, OBJECTS, Simulator
from vjepa2_ros.tasks.library.grasp import teach_grasp
from vjepa2_ros.tasks.outcome import (
    SUCCESS_DISTANCE,
    UPRIGHT,
    Outcome,
    cause_of,
    was_lifted,
)
from vjepa2_ros.tasks.starts import draw_place, start_free
from vjepa2_ros.tasks.task import TAUGHT, Episode, SubGoal, TaskOptions
from vjepa2_ros.tasks.teacher import CARRY, Teacher
from vjepa2_ros.tasks.truth import Trace


class PickAndPlace:
    """Success: the object was held and lifted, and at the end stands released at its target.

    Taught are five pictures: above the object, open at it, closed on it, near the target, placed.
    The last one is given twice, with the gripper held on the way down and opened there. The paper's
    protocol has three: grasped, near the target, placed.

    Args:
        single: the last picture alone.
    """

    objects = OBJECTS

    def __init__(self, single: bool = False) -> None:
        if single:
            self.pictures, self.gripper = 1, PLANNED
        self._single = single
        which = " from the last picture alone" if single else ""
        self.description = f"the hand grasps an object and places it{which}"

    def draw(
        self, simulator: Simulator, random: np.random.Generator, options: TaskOptions
    ) -> Episode:
        """See `Task`."""
        start = start_free(simulator, random)
        place = draw_place(simulator, options.object, random)
        teacher = Teacher(simulator, options)
        pictures = teach_grasp(teacher, options)
        taught = options.pictures == TAUGHT
        if not taught:
            pictures.append(teacher.picture("grasped", "close", 12))
        low = GRASP_HEIGHTS[OBJECTS.index(options.object)]
        teacher.lift(CARRY)
        teacher.move(np.append(place, low + CARRY))
        pictures.append(teacher.picture("near the target", "hold", 7 if taught else 10))
        teacher.move(np.append(place, low))
        teacher.open()
        placed = teacher.picture("placed", "open", 2 if taught else 7)
        if taught:
            pictures.append(teacher.picture("placed", "hold", 3))
        pictures.append(placed)
        subgoals = self._only(placed) if self._single else tuple(pictures)
        return Episode(simulator.seed, options.object, start, subgoals, teacher.object_position)

    def outcome(self, episode: Episode, trace: Trace, refused: bool) -> Outcome:
        """See `Task`."""
        index = episode.object_index
        distance = float(np.linalg.norm(trace.objects[-1, index] - episode.target))
        placed = (
            distance <= SUCCESS_DISTANCE
            and trace.tilts[-1, index] <= UPRIGHT
            and not trace.held[-1, index]
            and was_lifted(trace, index)
        )
        if placed:
            return Outcome(True, distance)
        return Outcome(False, distance, cause_of(trace, index, episode.target, refused))

    @staticmethod
    def _only(placed: SubGoal) -> tuple[SubGoal, ...]:
        return (replace(placed, gripper=PLANNED, steps=18),)


TASK = PickAndPlace()
