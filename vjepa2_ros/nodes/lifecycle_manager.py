# SPDX-License-Identifier: Apache-2.0
"""Brings managed nodes up in order and down, the robot first, and watches that they stay up.

Every wait has a deadline. A node that refuses is named with its own words (from its diagnostics),
and the others are brought down again. While all are up, each must say once a second that it is
alive and active; when one falls silent or leaves its state, all are brought down, and the process
ends with exit code 1. The controller is deactivated before all others, so that the robot halts
without waiting for a node that hangs.

Its own heartbeat names the processes that were brought up; the nodes listen to those only. What
started this process hears it, too (see ros/notify.py).

Nothing is touched where another stack runs in the same namespace. A heartbeat names the process
that sends it (`instance`), and only those of the processes that were brought up count.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from vjepa2_ros.msg import StackMembers
from vjepa2_ros.ros import notify
from vjepa2_ros.ros.compatibility import (
    BOOT,
    CLOCK_SAMPLES,
    MOST_CLOCK_SAMPLES,
    boot,
    build_problem,
    clock_problem,
    identity,
    own_build,
)
from vjepa2_ros.ros.conversions import seconds
from vjepa2_ros.ros.health import Health
from vjepa2_ros.ros.managed_node import ENDING
from vjepa2_ros.ros.parameters import declare, fix
from vjepa2_ros.ros.runner import initialise
from vjepa2_ros.ros.signals import stop_on_signal
from vjepa2_ros.ros.supervision import HEARTBEAT_PERIOD, MANAGER_HEARTBEAT, MANAGER_PERIOD
from vjepa2_ros.settings.declaration import SettingsError
from vjepa2_ros.settings.manager import LifecycleManagerSettings
from vjepa2_ros.settings.stack import MANAGER, READY, turn_to_end
from vjepa2_ros.text import printable

# A process that has not been heard for so long does not count as running [s].
_LIVE = 2.5 * HEARTBEAT_PERIOD
# Between two looks for heartbeats at most, if this process runs [s].
_PAUSE = 1.0
# What ends the whole stack may signal this process that much later than a node [s].
_SIGNAL_GAP = 0.5
# After so long without an answer, it may have been lost [s].
_ASK_AGAIN = 3.0
# Pause before a node is asked again to go down [s].
_TRY_AGAIN = 0.2
_REQUESTS = {
    name: ChangeState.Request(transition=Transition(id=number))
    for name, number in (
        ("configure", Transition.TRANSITION_CONFIGURE),
        ("activate", Transition.TRANSITION_ACTIVATE),
        ("deactivate", Transition.TRANSITION_DEACTIVATE),
        ("cleanup", Transition.TRANSITION_CLEANUP),
    )
}
_STATE_BEFORE = {"configure": "unconfigured", "activate": "inactive"}
_STATE_AFTER = {"configure": "inactive", "activate": "active"}
# State from which a transition during shutdown starts; in any other there is nothing to undo.
_UNDONE_FROM = {
    "deactivate": State.PRIMARY_STATE_ACTIVE,
    "cleanup": State.PRIMARY_STATE_INACTIVE,
}


class BringUpError(RuntimeError):
    """A node could not be brought up, or did not stay up; the text says which and why."""


@dataclass(frozen=True)
class Heartbeat:
    """Last heartbeat of a process.

    Attributes:
        heard: when it was received [s, steady].
        lifecycle: state of the node.
        message: its own words.
        identity: what it is built from, see `compatibility.identity`.
        offsets: times from the stamps of the last heartbeats to their arrival [s].
    """

    heard: float = 0.0
    lifecycle: str = ""
    message: str = ""
    identity: Mapping[str, str] = field(default_factory=dict)
    offsets: tuple[float, ...] = ()


class LifecycleManager:
    """The one runner of the managed nodes of a namespace. A plain program, not callbacks."""

    def __init__(self, stop) -> None:
        self._node = Node(MANAGER)
        self._settings = settings = declare(self._node, LifecycleManagerSettings)
        fix(self._node)
        self._stop = stop
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        # Now, and not when they are first used: discovery takes its time on both sides.
        self._clients = {
            (name, service): self._node.create_client(service, f"{name}/{suffix}")
            for name in settings.nodes
            for service, suffix in ((ChangeState, "change_state"), (GetState, "get_state"))
        }
        self._heartbeats: dict[str, dict[str, Heartbeat]] = {}
        self._health = Health(self._node.get_fully_qualified_name())
        for key, value in identity().items():
            self._health.set(key, value)
        self._instances = {MANAGER: self._health.instance}
        self._warned: set[str] = set()
        self._brought_up: list[str] = []
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 50)
        self._diagnostics = self._node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._members = self._node.create_publisher(StackMembers, MANAGER_HEARTBEAT, 1)
        self.starter = notify.Notifier()
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._node.create_timer(MANAGER_PERIOD, self._publish_members, clock=steady)
        self._node.create_timer(HEARTBEAT_PERIOD, self._publish_health, clock=steady)
        self._publish_health()
        self.log = self._node.get_logger()

    def bring_up(self) -> None:
        """Configure and activate all nodes in order; BringUpError names the one that refused."""
        self._listen_for_others()
        for name in self._settings.nodes:
            self._wait_for(name)
            state = self._state_of(name)
            if state == State.PRIMARY_STATE_UNCONFIGURED:
                self._change(name, "configure")
            # From here on something is to be undone.
            self._brought_up.append(name)
            if state != State.PRIMARY_STATE_ACTIVE:
                self._change(name, "activate")
            self.log.info(f"{name} is active")

    def watch(self) -> None:
        """Return when told to stop; BringUpError when a node falls silent or leaves its state."""
        started = looked = time.monotonic()
        while not self._stop.is_set():
            self._executor.spin_once(timeout_sec=0.1)
            if time.monotonic() - looked > _PAUSE:
                # This process did not run; whether others did is heard from now on.
                started = time.monotonic()
            looked = time.monotonic()
            for name in self._brought_up:
                last = self._heartbeat(name)
                # What a node said before it was brought up may still arrive now.
                if last.lifecycle == ENDING:
                    self._stop.wait(_SIGNAL_GAP)
                    raise BringUpError(f"{name} was told to end by a signal")
                if last.heard > started + HEARTBEAT_PERIOD and last.lifecycle != "active":
                    raise BringUpError(f"{name} is {last.lifecycle}: {last.message}")
                silence = time.monotonic() - max(last.heard, started)
                if silence > self._settings.heartbeat_timeout:
                    raise BringUpError(f"{name} has been silent for {silence:.1f} s")

    def bring_down(self) -> bool:
        """Deactivate all, then clean them up, skipping those that do not answer.

        The controller is deactivated first, which halts the robot, the others in reverse order; all
        are cleaned up in reverse order. Takes at most `shutdown_timeout` for each node.

        Returns:
            True if no node was left as it was; one whose process has ended counts as down.
        """
        if not self._brought_up:
            return True
        self.log.info("bringing all nodes down")
        self.starter.send(notify.STOPPING)
        left = list(reversed(self._brought_up))
        failed: list[str] = []
        for transition, order in (("deactivate", sorted(left, key=turn_to_end)), ("cleanup", left)):
            remaining = [name for name in order if name not in failed]
            failed += [name for name in remaining if not self._undo(name, transition)]
        self._brought_up.clear()
        self.log.info("all nodes are down" if not failed else f"not down: {', '.join(failed)}")
        return not failed

    def close(self) -> None:
        """Say goodbye, so that another manager may take over at once, and destroy the node."""
        self._members.publish(StackMembers(instance=self._health.instance))
        self._executor.shutdown()
        self._node.destroy_node()
        self.starter.close()

    # Other stacks ---------------------------------------------------------------------------

    def _listen_for_others(self) -> None:
        """Raise BringUpError if there is another lifecycle manager, or a node of ours twice."""
        deadline = time.monotonic() + self._settings.listening_time
        while time.monotonic() < deadline:
            self._check_stop()
            self._executor.spin_once(timeout_sec=0.1)
        for name in (MANAGER, *self._settings.nodes):
            self._check_alone(name)

    def _bind(self, name: str) -> None:
        """Note which process is the node; BringUpError if there is none, or more than one."""
        deadline = time.monotonic() + self._settings.discovery_timeout
        while not self._live(name):
            self._check_stop()
            if time.monotonic() > deadline:
                raise BringUpError(f"{name} sends no heartbeat on /diagnostics")
            self._executor.spin_once(timeout_sec=0.1)
        # One that is slow to send, or was killed and is still in the graph, is given its time.
        deadline = time.monotonic() + _LIVE
        while len(live := self._live(name)) < self._in_graph(name) and time.monotonic() < deadline:
            self._check_stop()
            self._executor.spin_once(timeout_sec=0.1)
        if not live:
            raise BringUpError(f"{name} has fallen silent")
        self._check_alone(name)
        self._instances[name] = live[0]
        self._check_compatible(name)
        # At once: the nodes refuse what it sends until they know of it.
        self._publish_members()

    def _check_alone(self, name: str) -> None:
        """Raise BringUpError if several processes run as one node."""
        live = self._live(name)
        if len(live) > 1:
            raise BringUpError(
                f"another stack runs in namespace {self._node.get_namespace()}, ROS domain "
                f"{self._node.context.get_domain_id()} ({name} are the processes "
                f"{' and '.join(map(_process, live))}): stop it, or choose another namespace"
            )

    def _check_compatible(self, name: str) -> None:
        """Raise BringUpError if versions or clocks of a node's process do not fit this one's."""
        if problem := build_problem(own_build(), self._heartbeat(name).identity):
            raise BringUpError(f"{_process(self._instances[name])} cannot be {name}: {problem}")
        if self._heartbeat(name).identity.get(BOOT) == boot():
            # It has this process's clock.
            return
        while (count := len(offsets := self._heartbeat(name).offsets)) < CLOCK_SAMPLES or (
            clock_problem(min(offsets)) and count < MOST_CLOCK_SAMPLES
        ):
            self._check_stop()
            if not self._live(name):
                raise BringUpError(f"{name} has fallen silent")
            self._executor.spin_once(timeout_sec=0.1)
        if problem := clock_problem(min(offsets)):
            raise BringUpError(f"{_process(self._instances[name])} cannot be {name}: {problem}")

    def _in_graph(self, name: str) -> int:
        """Number of nodes of this name that could send heartbeats."""
        namespace = self._node.get_namespace()
        senders = self._node.get_publishers_info_by_topic("/diagnostics")
        return sum((s.node_name, s.node_namespace) == (name, namespace) for s in senders)

    def _live(self, name: str) -> list[str]:
        """Instances of a node that are heard at present."""
        since = time.monotonic() - _LIVE
        known = self._heartbeats.get(name, {})
        return [instance for instance, last in known.items() if last.heard > since]

    def _heartbeat(self, name: str) -> Heartbeat:
        """The last one of the process that is brought up."""
        return self._heartbeats.get(name, {}).get(self._instances.get(name, ""), Heartbeat())

    # Up -------------------------------------------------------------------------------------

    def _wait_for(self, name: str) -> None:
        timeout = self._settings.discovery_timeout
        deadline = time.monotonic() + timeout
        client = self._client(name, ChangeState)
        while not client.service_is_ready():
            self._check_stop()
            if time.monotonic() > deadline:
                raise BringUpError(
                    f"{name} did not appear within {timeout:.0f} s: is its process running, in "
                    f"namespace {self._node.get_namespace()} and the same ROS_DOMAIN_ID? On a busy "
                    "machine raise discovery_timeout of the lifecycle_manager"
                )
            self._executor.spin_once(timeout_sec=0.1)
        self._bind(name)

    def _state_of(self, name: str) -> int:
        deadline = time.monotonic() + self._settings.discovery_timeout
        while time.monotonic() < deadline:
            self._check_stop()
            answer = self._call(name, GetState, GetState.Request(), _ASK_AGAIN)
            if answer is not None:
                return answer.current_state.id
        raise BringUpError(f"{name} does not say which state it is in")

    def _change(self, name: str, transition: str) -> None:
        """Configure or activate a node.

        An answer can get lost: a node under load may learn of this one's reader too late for it.
        The heartbeat tells what became of the request, since no node sends one in mid-transition.
        """
        timeout = self._settings.transition_timeout
        begun = time.monotonic()
        while time.monotonic() < begun + timeout:
            self._check_stop()
            asked = time.monotonic()
            future = self._client(name, ChangeState).call_async(_REQUESTS[transition])
            while not future.done() and time.monotonic() < begun + timeout:
                self._check_stop()
                self._executor.spin_once(timeout_sec=0.1)
                last = self._heartbeat(name)
                if last.heard > asked and last.lifecycle == _STATE_AFTER[transition]:
                    return
                if last.heard > asked + _ASK_AGAIN and last.lifecycle == _STATE_BEFORE[transition]:
                    break
            else:
                if future.done() and not future.result().success:
                    raise BringUpError(f"{name} did not {transition}: {self._reason(name, asked)}")
                if future.done():
                    return
        raise BringUpError(
            f"{name} gave no answer to {transition} (allowed are {timeout:.0f} s); does it run?"
        )

    # Down -----------------------------------------------------------------------------------

    def _undo(self, name: str, transition: str) -> bool:
        """Deactivate or clean up a node, and try again while it refuses; False if it did not."""
        begun = time.monotonic()
        deadline = begun + self._settings.shutdown_timeout
        while (left := deadline - time.monotonic()) > 0:
            if not self._client(name, ChangeState).service_is_ready() or self._has_died(name):
                # Its process has ended. One on its way out leaves the graph before it is gone.
                return True
            answer = self._call(name, ChangeState, _REQUESTS[transition], left)
            if answer is not None and answer.success:
                return True
            state = self._call(name, GetState, GetState.Request(), deadline - time.monotonic())
            if state is not None and state.current_state.id != _UNDONE_FROM[transition]:
                return True
            self._executor.spin_once(timeout_sec=_TRY_AGAIN)
        last = self._heartbeat(name)
        reason = last.message if last.heard > begun else "no answer"
        self.log.error(f"{name} did not {transition}: {reason}")
        return False

    # ----------------------------------------------------------------------------------------

    def _reason(self, name: str, asked: float) -> str:
        """The node's own words, which it publishes before it answers, but on another topic."""
        deadline = time.monotonic() + 3.0
        while time.monotonic() < deadline:
            last = self._heartbeat(name)
            if last.heard > asked and last.message not in ("unconfigured", "inactive"):
                return last.message
            self._executor.spin_once(timeout_sec=0.1)
        return "it gave no reason on /diagnostics; see its log"

    def _call(self, name: str, service: type, request: Any, timeout: float) -> Any:
        """Answer of a service of a node; None if there was none in time, or the node went away."""
        client = self._client(name, service)
        future = client.call_async(request)
        deadline = time.monotonic() + timeout
        while not future.done() and time.monotonic() < deadline and client.service_is_ready():
            self._executor.spin_once(timeout_sec=0.1)
            if self._has_died(name):
                break
        client.remove_pending_request(future)
        return future.result() if future.done() else None

    def _has_died(self, name: str) -> bool:
        """Whether the process of a node was killed: it stays in the graph for some 20 s."""
        host, _, process = self._instances.get(name, "").rpartition(":")[0].rpartition(":")
        if self._heartbeat(name).identity.get(BOOT) != boot() or host != socket.gethostname():
            # Another machine, or a container of this one, with processes of its own.
            return False
        if self._live(name):
            # Also in a container of the same host name.
            return False
        try:
            os.kill(int(process), 0)
        except OSError as error:
            return isinstance(error, ProcessLookupError)
        return False

    def _client(self, name: str, service: type) -> Any:
        return self._clients[name, service]

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise BringUpError("told to stop")

    def _now(self) -> float:
        return self._node.get_clock().now().nanoseconds * 1e-9

    def _publish_health(self) -> None:
        message = DiagnosticArray(status=[self._health.report("active")])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def _publish_members(self) -> None:
        nodes = self._settings.nodes
        message = StackMembers(
            instance=self._health.instance,
            nodes=nodes,
            instances=[self._instances.get(name, "") for name in nodes],
        )
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._members.publish(message)
        self.starter.send(notify.WATCHDOG)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        prefix = self._node.get_namespace().rstrip("/") + "/"
        for status in message.status:
            values = {entry.key: entry.value for entry in status.values}
            # Anybody may publish here: what is not a heartbeat of our own kind says nothing.
            if not status.name.startswith(prefix) or not {"instance", "lifecycle"} <= set(values):
                continue
            name, instance = status.name[len(prefix) :], values["instance"]
            if name != MANAGER and name not in self._settings.nodes:
                continue
            known = self._heartbeats.setdefault(name, {})
            offset = self._now() - seconds(message.header.stamp)
            offsets = known[instance].offsets if instance in known else ()
            known[instance] = Heartbeat(
                time.monotonic(),
                printable(values["lifecycle"]),
                printable(status.message),
                {key: printable(value) for key, value in values.items() if key in identity()},
                # Not all: a clock may be set.
                (*offsets[1 - MOST_CLOCK_SAMPLES :], offset),
            )
            self._forget(name)
            self._warn_of_others(name, instance)

    def _forget(self, name: str) -> None:
        """Drop instances that have fallen silent, but for the one that is watched."""
        kept = {self._instances.get(name), *self._live(name)}
        known = self._heartbeats[name]
        self._heartbeats[name] = {i: last for i, last in known.items() if i in kept}

    def _warn_of_others(self, name: str, instance: str) -> None:
        if name in self._warned or instance == self._instances.get(name, instance):
            return
        self._warned.add(name)
        self.log.warning(f"ignoring another {name} in this namespace: process {_process(instance)}")


def _process(instance: str) -> str:
    """Host and process of an instance, as it can be printed."""
    return printable(instance.rpartition(":")[0])


def main() -> int:
    stop = stop_on_signal()
    if not initialise(sys.argv):
        return 1
    try:
        manager = LifecycleManager(stop)
    except SettingsError as error:
        print(f"{MANAGER}: {error}", file=sys.stderr, flush=True)
        rclpy.shutdown()
        return 1
    code = 1
    try:
        manager.bring_up()
        manager.log.info(READY)
        manager.starter.send(notify.READY)
        manager.watch()
        code = 0
    except BringUpError as error:
        code = 0 if stop.is_set() else 1
        if code:
            manager.log.error(str(error))
    finally:
        code = code if manager.bring_down() else 1
        manager.close()
        rclpy.shutdown()
    return code


if __name__ == "__main__":
    sys.exit(main())
