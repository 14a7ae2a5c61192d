# SPDX-License-Identifier: Apache-2.0
"""The hand moves from a random pose to the pose that a picture shows."""

from __future__ import annotations

import numpy as np

from vjepa2_ros.settings.planning import LoopSettings
from vjepa2_ros.simulation.simulator import DOWN, Simulator
from vjepa2_ros.tasks.outcome import SUCCESS_DISTANCE, Cause, Outcome
from vjepa2_ros.tasks.task import Episode, SubGoal, TaskOptions, TeachingError
from vjepa2_ros.tasks.truth import Trace

NEAREST, FARTHEST = 0.15, 0.40
"""Distances between start and goal [m]."""
CLEARANCE = 0.14
"""Least distance of a low goal from cup and box, seen from above [m]."""
LOW = 0.2
"""Height below which objects are in the way [m]."""
_TRIES = 1000


class Reach:
    """Success: the hand is within 4 cm of the goal pose at the end."""

    description = "the hand moves from a random pose to the pose that a picture shows"
    objects = ()
    pictures = 1

    def draw(
        self, simulator: Simulator, random: np.random.Generator, options: TaskOptions
    ) -> Episode:
        """See `Task`."""
        start = simulator.snapshot()
        here = simulator.pose()[0]
        objects = simulator.object_positions()[:, :2]
        workspace = simulator.config.workspace
        for _ in range(_TRIES):
            goal = random.uniform(workspace.lower, workspace.upper)
            clear = goal[2] > LOW or np.linalg.norm(objects - goal[:2], axis=1).min() > CLEARANCE
            if clear and NEAREST <= np.linalg.norm(goal - here) <= FARTHEST:
                break
        else:
            raise TeachingError("no goal pose 15 to 40 cm away in this scene")
        simulator.place(goal, DOWN, 0.0)
        reached = simulator.pose()[0]
        image = simulator.render(options.image_size)
        steps = LoopSettings().steps_per_subgoal
        subgoal = SubGoal("goal pose", image, reached, 0.0, "hold", steps, simulator.state())
        return Episode(simulator.seed, None, start, (subgoal,), reached)

    def outcome(self, episode: Episode, trace: Trace, refused: bool) -> Outcome:
        """See `Task`."""
        distance = float(np.linalg.norm(trace.hand[-1] - episode.target))
        if distance <= SUCCESS_DISTANCE:
            return Outcome(True, distance)
        return Outcome(False, distance, Cause.REFUSED if refused else Cause.OUT_OF_TIME)


TASK = Reach()
