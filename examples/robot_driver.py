# SPDX-License-Identifier: Apache-2.0
"""A robot driver: an arm without physics that moves in a straight line at constant speed.

Run the stack with it, on the images of a folder, instead of the simulation:

    PYTHONPATH=examples .venv/bin/vjepa2-ros up --camera FOLDER --config examples/robot_driver.yaml

A driver of a real arm has the same six methods and calls the arm's library in them. The methods
must return at once, and raise RobotError with what to do when they fail.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vjepa2_ros.robot.driver import RobotDescription, RobotError, RobotState


class StraightLineArm:
    """A `Robot` that reaches every target.

    Args:
        clock: present time in seconds, on the clock that commands are stamped with.
        speed: of the tool centre point [m/s]. This and further arguments are given by the
            parameter `robot_options`.

    Raises:
        RobotError: the speed is not positive.
    """

    def __init__(self, clock: Callable[[], float], speed: float = 0.1) -> None:
        if speed <= 0:
            raise RobotError(f"speed must be above 0 m/s, not {speed}: see robot_options")
        self._clock = clock
        self._speed = speed
        self._from = self._to = np.array([0.5, 0.0, 0.2])
        self._quaternion = np.array([1.0, 0.0, 0.0, 0.0])  # gripper down
        self._closedness = 0.0
        self._started = clock()

    def describe(self) -> RobotDescription:
        """Return its speed and the stroke of its gripper; it has no joints."""
        return RobotDescription("straight-line arm", self._speed, gripper_stroke=0.08)

    def read_state(self) -> RobotState:
        """Return the pose at the present time. A real arm returns its last measurement."""
        now = self._clock()
        way = self._to - self._from
        length = float(np.linalg.norm(way))
        share = min(1.0, self._speed * (now - self._started) / length) if length else 1.0
        return RobotState(self._from + share * way, self._quaternion, self._closedness, stamp=now)

    def move_to(
        self, position: np.ndarray, quaternion_xyzw: np.ndarray, gripper_closedness: float
    ) -> None:
        """Start towards an absolute pose from where the arm is, preempting the last motion."""
        self._from = self.read_state().position
        self._to = np.array(position)
        self._quaternion = np.array(quaternion_xyzw)
        self._closedness = gripper_closedness
        self._started = self._clock()

    def stop(self) -> None:
        """Hold the present pose."""
        self._from = self._to = self.read_state().position

    def recover(self) -> None:
        """Do nothing: this arm has no errors of its own to clear."""

    def close(self) -> None:
        """Do nothing: there is no connection to close."""
