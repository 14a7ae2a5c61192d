# SPDX-License-Identifier: Apache-2.0
"""The simulated arm as a robot driver in the same process, in simulated time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vjepa2_ros.robot.driver import RobotDescription, RobotError, RobotState
from vjepa2_ros.simulation.simulator import Simulator


class SimulatedArm:
    """A `Robot` that drives a `Simulator` directly.

    It moves only while the caller advances the simulation.

    Args:
        simulator: the simulated cell.
        clock: time of a state in seconds, on the clock that commands are stamped with; for
            simulated time `lambda: simulator.time`.
    """

    def __init__(self, simulator: Simulator, clock: Callable[[], float]) -> None:
        self._simulator = simulator
        self._clock = clock

    def describe(self) -> RobotDescription:
        """Return what the scene file says of the arm."""
        return self._simulator.describe()

    def read_state(self) -> RobotState:
        """Return the state at the present simulated time."""
        return self._simulator.measured(self._clock())

    def move_to(
        self, position: np.ndarray, quaternion_xyzw: np.ndarray, gripper_closedness: float
    ) -> None:
        """Move towards a pose from now on.

        Raises:
            RobotError: a value is not finite, or the quaternion has no length.
        """
        try:
            self._simulator.set_target(position, quaternion_xyzw, gripper_closedness)
        except ValueError as error:
            raise RobotError(str(error)) from error

    def stop(self) -> None:
        """Brake within the acceleration limit and hold."""
        self._simulator.halt()

    def recover(self) -> None:
        """Do nothing: the simulated arm has no errors of its own."""

    def close(self) -> None:
        """Do nothing: the simulator belongs to the caller."""
