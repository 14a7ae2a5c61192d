# SPDX-License-Identifier: Apache-2.0
"""The simulator node as a robot: the driver that the controller node uses in simulation."""

from __future__ import annotations

import numpy as np
from std_msgs.msg import Header

from vjepa2_ros.msg import RobotState as RobotStateMessage
from vjepa2_ros.msg import SimulatorTarget
from vjepa2_ros.robot.driver import RobotDescription, RobotError, RobotState
from vjepa2_ros.robot.franka_limits import ARMS
from vjepa2_ros.ros.conversions import pose_message, robot_state, stamp
from vjepa2_ros.ros.managed_node import ManagedNode
from vjepa2_ros.ros.qos import STREAM, TARGET

SPEED = 0.25
"""Highest speed of the simulated arm with its default settings [m/s]."""
STROKE = 0.08
"""Opening of its gripper at closedness 0 [m]."""


class SimulatedRobot:
    """A `Robot` behind the topics `simulator/target` and `simulator/state`.

    Args:
        node: publishes and subscribes for it.
        base_frame: frame of the targets.
    """

    def __init__(self, node: ManagedNode, base_frame: str) -> None:
        self._node = node
        self._base_frame = base_frame
        self._state: RobotState | None = None
        self._targets = node.advertise(SimulatorTarget, "simulator/target", TARGET)
        node.subscribe(RobotStateMessage, "simulator/state", self._on_state, STREAM)

    def describe(self) -> RobotDescription:
        """Return what the simulated arm has: it is that of an FR3."""
        return ARMS["fr3"].describe("simulated Franka arm", SPEED, STROKE)

    def read_state(self) -> RobotState:
        """Return the newest state, and give a sign of life; RobotError before the first state."""
        self._send(SimulatorTarget(mode=SimulatorTarget.ALIVE))
        if self._state is None:
            raise RobotError("no state on simulator/state yet; is simulator_node active?")
        return self._state

    def move_to(
        self, position: np.ndarray, quaternion_xyzw: np.ndarray, gripper_closedness: float
    ) -> None:
        """Publish a target; RobotError without a subscriber."""
        self._publish(
            SimulatorTarget(
                mode=SimulatorTarget.MOVE,
                pose=pose_message(position, quaternion_xyzw),
                gripper_closedness=float(gripper_closedness),
            )
        )

    def stop(self) -> None:
        """Publish the request to hold; RobotError without a subscriber."""
        self._publish(SimulatorTarget(mode=SimulatorTarget.HOLD))

    def recover(self) -> None:
        """Check that the simulator is there; it has no errors of its own to clear."""
        self._require_simulator()

    def close(self) -> None:
        """Forget the last state."""
        self._state = None

    def _publish(self, target: SimulatorTarget) -> None:
        self._require_simulator()
        self._send(target)

    def _send(self, target: SimulatorTarget) -> None:
        target.header = Header(stamp=stamp(self._node.now()), frame_id=self._base_frame)
        self._targets.publish(target)

    def _require_simulator(self) -> None:
        if self._targets.get_subscription_count() == 0:
            raise RobotError("simulator/target has no subscriber; start simulator_node")

    def _on_state(self, message: RobotStateMessage) -> None:
        self._state = robot_state(message)
