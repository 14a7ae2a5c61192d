# SPDX-License-Identifier: Apache-2.0
"""A hand that knows the truth: it reaches the states that goal pictures show, and takes them.

On a robot a person does this: drives there, takes the picture, says what the gripper has to do.
"""

from __future__ import annotations

import numpy as np

from vjepa2_ros.settings.planning import PLANNED
from vjepa2_ros.simulation.simulator import GRASP_HEIGHTS, OBJECTS, Simulator, hand_rotation
from vjepa2_ros.tasks.task import SCRIPTED, SubGoal, TaskOptions, TeachingError

ABOVE = 0.10
"""Height over a grasp of the picture from above [m]."""
CARRY = 0.07
"""Height over its place on the table at which an object is carried [m]."""
_TOLERANCE = 0.01
_MOTION_TIME = 6.0
_SETTLE = 0.8


class Teacher:
    """Moves the hand, and the object that it holds, by the truth.

    The hand is turned as the object lies, where boxes lie at different angles.

    Args:
        simulator: in the scene of the episode.
        options: object, gripper and size of the pictures.
    """

    def __init__(self, simulator: Simulator, options: TaskOptions) -> None:
        self._simulator = simulator
        self._options = options
        self._index = OBJECTS.index(options.object) if options.object is not None else 0
        self._closedness = simulator.commanded_closedness
        turned = simulator.config.box_yaw > 0
        self._rotation = hand_rotation(simulator.grasp_yaws()[self._index] if turned else 0.0)

    @property
    def grasp(self) -> np.ndarray:
        """Where the tool centre point [3] grasps the object as it lies [m]."""
        return np.append(self.object_position[:2], GRASP_HEIGHTS[self._index])

    @property
    def object_position(self) -> np.ndarray:
        """Centre of the object [3] in metres."""
        return self._simulator.object_positions()[self._index]

    def move(self, position: np.ndarray) -> None:
        """Move the tool centre point to a position [3] in metres.

        Raises:
            TeachingError: it does not arrive.
        """
        self._go(np.asarray(position, float))
        miss = np.linalg.norm(self._simulator.pose()[0] - position)
        if miss > _TOLERANCE:
            raise TeachingError(f"the hand stopped {miss * 100:.1f} cm before {position}")

    def close(self) -> None:
        """Close the fingers on the object.

        Raises:
            TeachingError: they do not hold it.
        """
        self._set_gripper(1.0)
        if not self._simulator.held()[self._index]:
            raise TeachingError(f"the fingers do not hold the {OBJECTS[self._index]}")

    def open(self) -> None:
        """Open the fingers."""
        self._set_gripper(0.0)

    def grasp_object(self) -> None:
        """Go to the object from above and close the fingers on it."""
        self.move(self.grasp + (0.0, 0.0, ABOVE))
        self.move(self.grasp)
        self.close()

    def lift(self, height: float) -> None:
        """Lift what is held by `height` [m]."""
        self.move(self._simulator.pose()[0] + (0.0, 0.0, height))

    def picture(self, name: str, gripper: str, steps: int) -> SubGoal:
        """Take a picture of the present state as a sub-goal.

        Args:
            name: what it shows.
            gripper: what the gripper does towards it, where the goal says so.
            steps: to spend on it.
        """
        return SubGoal(
            name,
            self._simulator.render(self._options.image_size),
            self._simulator.pose()[0],
            self._closedness,
            gripper if self._options.gripper == SCRIPTED else PLANNED,
            steps,
            self._simulator.state(),
        )

    def _set_gripper(self, closedness: float) -> None:
        self._closedness = closedness
        self._go(self._simulator.pose()[0])

    def _go(self, position: np.ndarray) -> None:
        simulator = self._simulator
        simulator.set_target(position, self._rotation.as_quat(), self._closedness)
        deadline = simulator.time + _MOTION_TIME
        simulator.advance(_SETTLE)
        while not simulator.settled() and simulator.time < deadline:
            simulator.advance(0.1)
        simulator.advance(0.2)
