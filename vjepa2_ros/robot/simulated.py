# SPDX-License-Identifier: Apache-2.0
"""Driver of the simulated arm, which moves in another process."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from vjepa2_ros.robot.driver import RobotDescription, RobotError, RobotState
from vjepa2_ros.robot.franka_limits import ARMS, HAND_STROKE

SPEED = 0.25
"""Highest speed of the simulated arm with its default settings [m/s]."""


class Link(Protocol):
    """What connects the driver with the simulation."""

    def state(self) -> RobotState | None:
        """Return the newest state, None before the first."""
        ...

    def is_heard(self) -> bool:
        """Whether there is a simulator that takes targets."""
        ...

    def move(
        self, position: np.ndarray, quaternion_xyzw: np.ndarray, gripper_closedness: float
    ) -> None:
        """Send a target; shapes and units as in `Robot.move_to`."""
        ...

    def hold(self) -> None:
        """Send the request to hold."""
        ...

    def alive(self) -> None:
        """Send a sign of life, without which the simulator holds the arm."""
        ...


class SimulatedRobot:
    """A `Robot`: the arm of the simulated cell.

    Args:
        link: to the simulation.
    """

    def __init__(self, link: Link) -> None:
        self._link = link

    def describe(self) -> RobotDescription:
        """Return what the simulated arm has: it is that of an FR3."""
        return ARMS["fr3"].describe("simulated Franka arm", SPEED, HAND_STROKE)

    def read_state(self) -> RobotState:
        """Return the newest state, and give a sign of life; RobotError before the first state."""
        self._link.alive()
        state = self._link.state()
        if state is None:
            raise RobotError("no state on simulator/state yet; is simulator_node active?")
        return state

    def move_to(
        self, position: np.ndarray, quaternion_xyzw: np.ndarray, gripper_closedness: float
    ) -> None:
        """Send a target; RobotError without a simulator."""
        self._require_simulator()
        self._link.move(position, quaternion_xyzw, gripper_closedness)

    def stop(self) -> None:
        """Send the request to hold; RobotError without a simulator."""
        self._require_simulator()
        self._link.hold()

    def recover(self) -> None:
        """Check that the simulator is there; it has no errors of its own to clear."""
        self._require_simulator()

    def close(self) -> None:
        """Nothing is to be released: without signs of life the simulator holds the arm."""

    def _require_simulator(self) -> None:
        if not self._link.is_heard():
            raise RobotError("simulator/target has no subscriber; start simulator_node")
