# SPDX-License-Identifier: Apache-2.0
"""Whether the lifecycle manager of a node's stack is alive, and which processes it manages.

It publishes a heartbeat. The discovery graph is no measure: a process that was killed stays in it
for some 20 s, one that hangs for ever.
"""

from __future__ import annotations

from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from vjepa2_ros.msg import StackMembers
from vjepa2_ros.ros.senders import ManagerBinding
from vjepa2_ros.settings.stack import MANAGER

HEARTBEAT_PERIOD = 1.0
"""Of all nodes on `/diagnostics` [s]."""
MANAGER_PERIOD = 0.25
"""Of the lifecycle manager on `MANAGER_HEARTBEAT` [s]."""
MANAGER_HEARTBEAT = f"{MANAGER}/heartbeat"
"""Topic on which the lifecycle manager says that it is alive, and which processes it manages."""
# Silence after which the manager is not there, and after which it is lost [s].
_ABSENT = 3.0
_LOST = 6.0


class ManagerWatch(ManagerBinding):
    """Listens for the lifecycle manager in the namespace of a node."""

    def __init__(self, node: Node) -> None:
        super().__init__(MANAGER_PERIOD, _ABSENT, _LOST)
        self._node = node
        node.create_subscription(StackMembers, MANAGER_HEARTBEAT, self._on_heartbeat, 1)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        node.create_timer(MANAGER_PERIOD, self.tick, clock=steady)

    def _on_heartbeat(self, message: StackMembers) -> None:
        members = dict(zip(message.nodes, message.instances, strict=False))
        if not self.heard(message.instance, members):
            self._node.get_logger().warning(
                f"ignoring another {MANAGER} in this namespace", throttle_duration_sec=10.0
            )
