# SPDX-License-Identifier: Apache-2.0
"""The closed hand pushes an object to where a picture shows it."""

from __future__ import annotations

import numpy as np

from vjepa2_ros.simulation.simulator import GRASP_HEIGHTS, OBJECTS, Simulator
from vjepa2_ros.tasks.outcome import UPRIGHT, Cause, Outcome, lifts
from vjepa2_ros.tasks.starts import draw_place, start_free
from vjepa2_ros.tasks.task import Episode, TaskOptions, TeachingError
from vjepa2_ros.tasks.teacher import ABOVE, Teacher
from vjepa2_ros.tasks.truth import Trace

WAY = 0.08, 0.15
"""Least and largest way of the object [m]."""
SUCCESS_DISTANCE = 0.03
"""Distance to the target within which the object counts as there [m]."""
LIFTED = 0.015
"""Height above its place on the table from which an object counts as lifted [m]."""
HEIGHT = 0.035
"""Of the tool centre point while it pushes [m]."""
_BEHIND = 0.08  # distance of the hand from the object before it pushes [m]
_STEP = 0.01
_MOVED = 0.01  # way of an object that counts as touched [m]


class Push:
    """Success: the object was never lifted and stands within 3 cm of where the picture shows it.

    One picture in either protocol: the object 8 to 15 cm from its place, the closed hand behind it.
    """

    description = "the closed hand pushes an object to where a picture shows it"
    objects = OBJECTS

    def draw(
        self, simulator: Simulator, random: np.random.Generator, options: TaskOptions
    ) -> Episode:
        """See `Task`."""
        start = start_free(simulator, random, closedness=1.0)
        place = draw_place(simulator, options.object, random, WAY)
        teacher = Teacher(simulator, options)
        here = teacher.object_position[:2].copy()
        length = np.linalg.norm(place - here)
        direction = (place - here) / length
        behind = np.append(here - _BEHIND * direction, HEIGHT)
        teacher.move(behind + (0.0, 0.0, GRASP_HEIGHTS[0] + ABOVE))
        teacher.move(behind)
        way = 0.0
        while (teacher.object_position[:2] - here) @ direction < length:
            if way > length + _BEHIND:
                raise TeachingError(f"the {options.object} slipped off the hand")
            way += _STEP
            teacher.move(behind + np.append(way * direction, 0.0))
        index = OBJECTS.index(options.object)
        if simulator.object_tilts()[index] > UPRIGHT:
            raise TeachingError(f"the {options.object} fell")
        if not WAY[0] <= np.linalg.norm(teacher.object_position[:2] - here) <= WAY[1] + _STEP:
            raise TeachingError(f"the {options.object} slipped off the hand")
        picture = teacher.picture("pushed", "close", 15)
        return Episode(simulator.seed, options.object, start, (picture,), teacher.object_position)

    def outcome(self, episode: Episode, trace: Trace, refused: bool) -> Outcome:
        """See `Task`."""
        index = episode.object_index
        places = trace.objects[:, index]
        distance = float(np.linalg.norm(places[-1] - episode.target))
        lifted = bool((lifts(trace, index) > LIFTED).any())
        stands = trace.tilts[-1, index] <= UPRIGHT
        if distance <= SUCCESS_DISTANCE and stands and not lifted:
            return Outcome(True, distance)
        moved = np.linalg.norm(places[-1] - places[0]) > _MOVED
        if refused:
            cause = Cause.REFUSED
        elif moved:
            cause = Cause.PUSHED_AWAY
        else:
            cause = Cause.NEVER_AT_OBJECT
        return Outcome(False, distance, cause)


TASK = Push()
