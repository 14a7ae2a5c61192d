# SPDX-License-Identifier: Apache-2.0
"""What a person beside the stack sees and says: an observer of its topics, and its services."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rosgraph_msgs.msg import Clock
from std_srvs.srv import Trigger

from vjepa2_ros.faults import motion
from vjepa2_ros.msg import Command, Latent, PlanningStatus, RobotState, SimulatorTruth
from vjepa2_ros.ros.context import init
from vjepa2_ros.ros.conversions import stamp
from vjepa2_ros.ros.qos import COMMAND, LATCHED, LATEST, STREAM
from vjepa2_ros.srv import InjectFault, SetGoal

_Message = TypeVar("_Message")

# Time between two messages of the clock [s].
_CLOCK_PERIOD = 0.01
# Changes of the accepted command that are remembered: more than a planner may be behind.
_ACCEPTED = 10
_SERVICES: dict[str, type] = {
    "set_goal": SetGoal,
    "cancel": Trigger,
    "stop": Trigger,
    "reset_fault": Trigger,
    "simulator/inject_fault": InjectFault,
}


@dataclass
class Observations:
    """What was received, with the times of receipt [s, steady].

    Attributes:
        truth: true positions of the arm, each [3] in metres.
        states, statuses, commands: messages.
        accepted: goal and sequence number of the accepted command, at each change.
        foreign: number of messages that the controller has ignored for their sender.
    """

    truth: list[tuple[float, np.ndarray]] = field(default_factory=list)
    states: list[tuple[float, RobotState]] = field(default_factory=list)
    statuses: list[tuple[float, PlanningStatus]] = field(default_factory=list)
    commands: list[tuple[float, Command]] = field(default_factory=list)
    accepted: list[tuple[float, tuple[str, int]]] = field(default_factory=list)
    foreign: list[tuple[float, int]] = field(default_factory=list)
    latent: Latent | None = None


def since(
    messages: Sequence[tuple[float, _Message]], begin: float
) -> list[tuple[float, _Message]]:
    """The messages that were received from a time on."""
    return [(received, message) for received, message in list(messages) if received >= begin]


class Observer:
    """A node in a thread of its own.

    Args:
        namespace: of the stack.

    Attributes:
        seen: what was received; replaced to forget it.
        clock_offset: what the published clock is ahead of this machine's by [s]; None while none
            is published.
        requested: when the last call of a service was sent [s, steady]; None if that service was
            not there.
    """

    def __init__(self, namespace: str) -> None:
        self.seen = Observations()
        self.clock_offset: float | None = None
        self.requested: float | None = None
        self._namespace = namespace
        # Commands of the planner, and those beside it: goal and sequence number.
        self._sent: set[tuple[str, int]] = set()
        self._injected: set[tuple[str, int]] = set()
        self._open()

    def renew(self) -> None:
        """Be another participant of the network from now on, and forget what was seen.

        One that has seen some thirty processes die without a word no longer hears new ones.
        """
        self.close()
        self.seen = Observations()
        self._open()

    def close(self) -> None:
        """End the node."""
        self._closing = True
        self._thread.join()
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def _open(self) -> None:
        self._context = Context()
        init(context=self._context)
        self._node = rclpy.create_node("faults", namespace=self._namespace, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        # A client that is made when a fault is injected would delay it by its discovery.
        self._clients: dict[str, Any] = {
            name: self._node.create_client(kind, name) for name, kind in _SERVICES.items()
        }
        listeners: tuple[tuple[type, str, Callable, Any], ...] = (
            (SimulatorTruth, "simulator/truth", self._on_truth, STREAM),
            (RobotState, "robot_state", self._on_state, STREAM),
            (PlanningStatus, "status", self._on_status, LATCHED),
            (Command, "command", self._on_command, COMMAND),
            (Latent, "latent", self._on_latent, LATEST),
            (DiagnosticArray, "/diagnostics", self._on_diagnostics, 50),
        )
        for kind, topic, keep, qos in listeners:
            self._node.create_subscription(kind, topic, keep, qos)
        self._commands = self._node.create_publisher(Command, "command", COMMAND)
        self._latents = self._node.create_publisher(Latent, "latent", LATEST)
        self._clock = self._node.create_publisher(Clock, "/clock", 10)
        self._node.create_timer(_CLOCK_PERIOD, self._publish_clock)
        self._closing = False
        self._thread = threading.Thread(target=self._spin, name="observer", daemon=True)
        self._thread.start()

    # What was seen --------------------------------------------------------------------------

    @property
    def planned(self) -> int:
        """Number of commands of the planner since the beginning."""
        return len(self._sent)

    @property
    def injected(self) -> set[tuple[str, int]]:
        """Goals and sequence numbers of the commands that were published beside the planner's."""
        return self._injected

    def last_command(self) -> Command:
        """The last command of the planner."""
        return self.seen.commands[-1][1]

    def accepted(self) -> tuple[str, int]:
        """Goal and sequence number of the command that was accepted last."""
        if not self.seen.states:
            return "", 0
        state = self.seen.states[-1][1]
        return state.goal_id, state.sequence

    def accepted_at(self, when: float) -> tuple[str, int]:
        """Of the command that was accepted last before a time."""
        before = [state for received, state in list(self.seen.states) if received <= when]
        return (before[-1].goal_id, before[-1].sequence) if before else ("", 0)

    def accepted_since(self, begin: float) -> set[tuple[str, int]]:
        """Of the commands that the controller named after a time."""
        return {(s.goal_id, s.sequence) for _, s in since(self.seen.states, begin)}

    def rest(self, begin: float, last: bool = True) -> tuple[float | None, float | None]:
        """When the arm came to rest after a time, and how far it went; see `motion.rest`."""
        truth = self.seen.truth.copy()
        times, positions = [at for at, _ in truth], [position for _, position in truth]
        return motion.rest(times, positions, begin, last)

    def trim(self) -> None:
        """Forget what is older than a second."""
        begin = time.monotonic() - 1.0
        old, new = self.seen, Observations(latent=self.seen.latent)
        new.truth = since(old.truth, begin)
        new.states = since(old.states, begin)
        new.statuses = since(old.statuses, begin)
        new.commands, new.foreign = old.commands[-3:], old.foreign[-3:]
        new.accepted = old.accepted[-_ACCEPTED:]
        self.seen = new

    # What is said ---------------------------------------------------------------------------

    def publish_command(self, command: Command) -> None:
        """Publish a command beside the planner's."""
        if (command.goal_id, command.sequence) not in self._sent:
            self._injected.add((command.goal_id, command.sequence))
        self._commands.publish(command)

    def publish_latent(self, latent: Latent) -> None:
        """Publish a latent beside the encoder's."""
        self._latents.publish(latent)

    def has_services(self) -> bool:
        """Whether all services that can be called are there."""
        return all(client.service_is_ready() for client in self._clients.values())

    def call(self, name: str, request: Any, timeout: float = 6.0) -> Any:
        """Answer of a service of the stack; None if there was none in time [s]."""
        client, self.requested = self._clients[name], None
        if not client.wait_for_service(timeout):
            return None
        done = threading.Event()
        self.requested = time.monotonic()
        future = client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        if not done.wait(timeout):
            client.remove_pending_request(future)
            return None
        return future.result()

    # Receiving ------------------------------------------------------------------------------

    def _publish_clock(self) -> None:
        if self.clock_offset is not None:
            self._clock.publish(Clock(clock=stamp(time.time() + self.clock_offset)))

    def _spin(self) -> None:
        while not self._closing:
            self._executor.spin_once(timeout_sec=0.1)

    def _on_truth(self, message: SimulatorTruth) -> None:
        hand = message.hand
        self.seen.truth.append((time.monotonic(), np.array([hand.x, hand.y, hand.z])))

    def _on_state(self, message: RobotState) -> None:
        seen, now = self.seen, time.monotonic()
        seen.states.append((now, message))
        accepted = message.goal_id, message.sequence
        if not seen.accepted or seen.accepted[-1][1] != accepted:
            seen.accepted.append((now, accepted))

    def _on_status(self, message: PlanningStatus) -> None:
        self.seen.statuses.append((time.monotonic(), message))

    def _on_command(self, message: Command) -> None:
        if (message.goal_id, message.sequence) not in self._injected:
            self._sent.add((message.goal_id, message.sequence))
        self.seen.commands.append((time.monotonic(), message))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {entry.key: entry.value for entry in status.values}
            if status.name == f"{self._namespace}/controller_node" and "foreign_messages" in values:
                self.seen.foreign.append((time.monotonic(), int(values["foreign_messages"])))

    def _on_latent(self, message: Latent) -> None:
        self.seen.latent = message
