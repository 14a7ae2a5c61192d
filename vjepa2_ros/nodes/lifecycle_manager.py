# SPDX-License-Identifier: Apache-2.0
"""Brings managed nodes up in order and down in reverse, and watches that they stay up.

Every wait has a deadline. A node that refuses is named with its own words (from its diagnostics),
and the others are brought down again. While all are up, each must say once a second that it is
alive and active; when one falls silent or leaves its state, all are brought down, the nodes that
move the robot first to last in reverse order, and the process ends with exit code 1.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from vjepa2_ros.ros.managed_node import HEARTBEAT_PERIOD
from vjepa2_ros.ros.parameters import declare
from vjepa2_ros.ros.runner import initialise
from vjepa2_ros.ros.signals import stop_on_signal
from vjepa2_ros.settings.declaration import SettingsError
from vjepa2_ros.settings.manager import LifecycleManagerSettings
from vjepa2_ros.settings.stack import READY

# After so long without an answer, it may have been lost [s].
_ASK_AGAIN = 3.0
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


class BringUpError(RuntimeError):
    """A node could not be brought up, or did not stay up; the text says which and why."""


class LifecycleManager:
    """The one runner of the managed nodes of a namespace. A plain program, not callbacks."""

    def __init__(self, stop) -> None:
        self._node = Node("lifecycle_manager")
        self._settings = settings = declare(self._node, LifecycleManagerSettings)
        self._stop = stop
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        # Now, and not when they are first used: discovery takes its time on both sides.
        self._clients = {
            (name, service): self._node.create_client(service, f"{name}/{suffix}")
            for name in settings.nodes
            for service, suffix in ((ChangeState, "change_state"), (GetState, "get_state"))
        }
        self._heartbeats: dict[str, tuple[float, str, str]] = {}
        self._brought_up: list[str] = []
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 50)
        self.log = self._node.get_logger()

    def bring_up(self) -> None:
        """Configure and activate all nodes in order; BringUpError names the one that refused."""
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
        started = time.monotonic()
        while not self._stop.is_set():
            self._executor.spin_once(timeout_sec=0.1)
            for name in self._brought_up:
                heard, lifecycle, message = self._heartbeats.get(name, (started, "active", ""))
                # What a node said before it was brought up may still arrive now.
                if heard > started + HEARTBEAT_PERIOD and lifecycle != "active":
                    raise BringUpError(f"{name} is {lifecycle}: {message}")
                silence = time.monotonic() - max(heard, started)
                if silence > self._settings.heartbeat_timeout:
                    raise BringUpError(f"{name} has been silent for {silence:.1f} s")

    def bring_down(self) -> None:
        """Deactivate all in reverse order, then clean them up, skipping one that is silent."""
        silent = set()
        for transition in ("deactivate", "cleanup"):
            for name in reversed(self._brought_up):
                if name in silent:
                    continue
                if not self._client(name, ChangeState).service_is_ready():
                    # Its process has ended, as all do at once on a Ctrl-C under `ros2 launch`.
                    silent.add(name)
                    continue
                timeout = self._settings.shutdown_timeout
                if self._call(name, ChangeState, _REQUESTS[transition], timeout) is None:
                    silent.add(name)
                    self.log.warning(f"{name} did not answer to {transition}")
        self._brought_up.clear()
        self.log.info("all nodes are down")

    def close(self) -> None:
        """Destroy the node."""
        self._executor.shutdown()
        self._node.destroy_node()

    # ----------------------------------------------------------------------------------------

    def _wait_for(self, name: str) -> None:
        timeout = self._settings.discovery_timeout
        deadline = time.monotonic() + timeout
        client = self._client(name, ChangeState)
        while not client.service_is_ready():
            self._check_stop()
            if time.monotonic() > deadline:
                raise BringUpError(
                    f"{name} did not appear within {timeout:.0f} s: is its process running, in "
                    f"namespace {self._node.get_namespace()} and the same ROS_DOMAIN_ID?"
                )
            self._executor.spin_once(timeout_sec=0.1)

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
                heard, lifecycle, _ = self._heartbeats.get(name, (0.0, "", ""))
                if heard > asked and lifecycle == _STATE_AFTER[transition]:
                    return
                if heard > asked + _ASK_AGAIN and lifecycle == _STATE_BEFORE[transition]:
                    break
            else:
                if future.done() and not future.result().success:
                    raise BringUpError(f"{name} did not {transition}: {self._reason(name, asked)}")
                if future.done():
                    return
        raise BringUpError(
            f"{name} gave no answer to {transition} (allowed are {timeout:.0f} s); does it run?"
        )

    def _reason(self, name: str, asked: float) -> str:
        """The node's own words, which it publishes before it answers, but on another topic."""
        deadline = time.monotonic() + 3.0
        while time.monotonic() < deadline:
            heard, _, message = self._heartbeats.get(name, (0.0, "", ""))
            if heard > asked and message not in ("unconfigured", "inactive"):
                return message
            self._executor.spin_once(timeout_sec=0.1)
        return "it gave no reason on /diagnostics; see its log"

    def _call(self, name: str, service: type, request: Any, timeout: float) -> Any:
        """Answer of a service of a node; None if there was none in time, or the node went away."""
        client = self._client(name, service)
        future = client.call_async(request)
        deadline = time.monotonic() + timeout
        while not future.done() and time.monotonic() < deadline and client.service_is_ready():
            self._executor.spin_once(timeout_sec=0.1)
        client.remove_pending_request(future)
        return future.result() if future.done() else None

    def _client(self, name: str, service: type) -> Any:
        return self._clients[name, service]

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise BringUpError("told to stop")

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        prefix = self._node.get_namespace().rstrip("/") + "/"
        for status in message.status:
            lifecycle = next((v.value for v in status.values if v.key == "lifecycle"), None)
            if lifecycle is not None and status.name.startswith(prefix):
                name = status.name[len(prefix) :]
                self._heartbeats[name] = time.monotonic(), lifecycle, status.message


def main() -> int:
    stop = stop_on_signal()
    if not initialise(sys.argv):
        return 1
    try:
        manager = LifecycleManager(stop)
    except SettingsError as error:
        print(f"lifecycle_manager: {error}", file=sys.stderr, flush=True)
        rclpy.shutdown()
        return 1
    try:
        manager.bring_up()
        manager.log.info(READY)
        manager.watch()
        return 0
    except BringUpError as error:
        if stop.is_set():
            return 0
        manager.log.error(f"{error}; bringing all nodes down")
        return 1
    finally:
        manager.bring_down()
        manager.close()
        rclpy.shutdown()


if __name__ == "__main__":
    sys.exit(main())
