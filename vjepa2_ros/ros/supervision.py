# SPDX-License-Identifier: Apache-2.0
"""Whether the lifecycle manager of a node's stack is alive.

It publishes a heartbeat. The discovery graph is no measure: a process that was killed stays in it
for some 20 s, one that hangs for ever.
"""

from __future__ import annotations

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_msgs.msg import Empty

from vjepa2_ros.settings.stack import MANAGER

HEARTBEAT_PERIOD = 1.0
"""Of the lifecycle manager and of all nodes [s]."""
MANAGER_HEARTBEAT = f"{MANAGER}/heartbeat"
"""Topic on which the lifecycle manager says that it is alive."""
# Periods without a heartbeat after which the manager is not there, and after which it is lost.
_ABSENT = 3
_LOST = 6


class ManagerWatch:
    """Listens for the lifecycle manager in the namespace of a node.

    Silence is counted in periods in which the node itself worked, so that a node that loads a model
    for a minute does not take that for the manager's silence.
    """

    def __init__(self, node: Node) -> None:
        self._silence: int | None = None
        node.create_subscription(Empty, MANAGER_HEARTBEAT, self._on_heartbeat, 1)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        node.create_timer(HEARTBEAT_PERIOD, self._on_period, clock=steady)

    @property
    def is_there(self) -> bool:
        """True if a heartbeat came lately, or was expected to begin lately."""
        return self._silence is not None and self._silence < _ABSENT

    @property
    def is_lost(self) -> bool:
        """True if heartbeats came once, or were expected, and none came for `_LOST` periods."""
        return self._silence is not None and self._silence >= _LOST

    def expect(self) -> None:
        """Take the manager to be there now, so that it counts as lost if it is never heard."""
        if self._silence is None:
            self._silence = 0

    def _on_heartbeat(self, message: Empty) -> None:
        self._silence = 0

    def _on_period(self) -> None:
        if self._silence is not None:
            self._silence += 1
