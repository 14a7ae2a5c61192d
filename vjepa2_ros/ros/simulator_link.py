# SPDX-License-Identifier: Apache-2.0
"""The topics of the simulator node, as the driver of the simulated robot uses them."""

from __future__ import annotations

import numpy as np
from std_msgs.msg import Header

from vjepa2_ros.msg import RobotState as RobotStateMessage
from vjepa2_ros.msg import SimulatorTarget
from vjepa2_ros.robot.driver import RobotState
from vjepa2_ros.ros.conversions import pose_message, robot_state, stamp
from vjepa2_ros.ros.managed_node import ManagedNode
from vjepa2_ros.ros.qos import STREAM, TARGET


class SimulatorLink:
    """A `robot.simulated.Link` over `simulator/target` and `simulator/state`.

    Args:
        node: publishes and subscribes for it, and stamps the targets.
        base_frame: frame of the targets.
    """

    def __init__(self, node: ManagedNode, base_frame: str) -> None:
        self._node = node
        self._base_frame = base_frame
        self._state: RobotState | None = None
        self._targets = node.advertise(SimulatorTarget, "simulator/target", TARGET)
        node.subscribe(RobotStateMessage, "simulator/state", self._on_state, STREAM)

    def state(self) -> RobotState | None:
        """Return the newest state, None before the first."""
        return self._state

    def is_heard(self) -> bool:
        """Whether there is a simulator that takes targets."""
        return self._targets.get_subscription_count() > 0

    def move(
        self, position: np.ndarray, quaternion_xyzw: np.ndarray, gripper_closedness: float
    ) -> None:
        """Publish a target."""
        self._send(
            SimulatorTarget(
                mode=SimulatorTarget.MOVE,
                pose=pose_message(position, quaternion_xyzw),
                gripper_closedness=float(gripper_closedness),
            )
        )

    def hold(self) -> None:
        """Publish the request to hold."""
        self._send(SimulatorTarget(mode=SimulatorTarget.HOLD))

    def alive(self) -> None:
        """Publish a sign of life."""
        self._send(SimulatorTarget(mode=SimulatorTarget.ALIVE))

    def _send(self, target: SimulatorTarget) -> None:
        target.header = Header(stamp=stamp(self._node.now()), frame_id=self._base_frame)
        self._targets.publish(target)

    def _on_state(self, message: RobotStateMessage) -> None:
        self._state = robot_state(message)
