# SPDX-License-Identifier: Apache-2.0
"""Runs one node as a process: start, spin, and a clean end on Ctrl-C or SIGTERM."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from vjepa2_ros.ros.context import RosError, init
from vjepa2_ros.ros.deadlines import DEACTIVATION_TIMEOUT, wind_down_timeout
from vjepa2_ros.ros.parameters import declare
from vjepa2_ros.ros.signals import StopEvent, stop_on_signal
from vjepa2_ros.settings.declaration import SettingsError
from vjepa2_ros.settings.stack import MANAGER, turn_to_end

if TYPE_CHECKING:
    from vjepa2_ros.ros.managed_node import ManagedNode

# How soon a signal is seen while nothing happens: Python handles it between two waits.
_WAIT = 0.1
# Pause between two attempts to deactivate [s].
_TRY_AGAIN = 0.1
# Time between the ends of two nodes that nobody brings down in order [s].
_TURN = 0.5


def initialise(arguments: Sequence[str] | None, context: Context | None = None) -> bool:
    """Initialise rclpy; False with a message if the arguments are bad."""
    try:
        init(arguments, context)
    except RosError as error:
        print(f"ROS arguments refused: {error}", file=sys.stderr, flush=True)
        return False
    return True


def check_parameters(name: str, settings: type, arguments: Sequence[str]) -> bool:
    """Check the ROS arguments and parameters of a node without its module.

    No other process discovers the node of the check. Where a publisher ends that was matched a
    moment ago, while a participant still announces itself, Fast DDS 3.2 may block for ever in
    `PDP::removeWriterProxyData`, and that participant neither discovers nor hears anything any
    more: with such short-lived nodes that came of one in some 20 starts of a stack.

    Args:
        name: of the node.
        settings: class of its settings.
        arguments: of its process.

    Returns:
        False, with a message on stderr, if the node would refuse them.
    """
    context = Context()
    with _undiscovered():
        if not initialise(arguments, context):
            return False
        try:
            node = Node(name, context=context, enable_rosout=False, start_parameter_services=False)
            declare(node, settings)
            node.destroy_node()
        except Exception as error:  # noqa: BLE001 - rclpy raises several types for bad files
            text = error if isinstance(error, SettingsError) else f"cannot start: {error}"
            print(f"{name}: {text}", file=sys.stderr, flush=True)
            return False
        finally:
            context.try_shutdown()
    return True


@contextmanager
def _undiscovered() -> Iterator[None]:
    """Keep contexts that are initialised meanwhile to themselves."""
    # The older variable wins over the other.
    wanted = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF", "ROS_LOCALHOST_ONLY": "0"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def run(node_class: type[ManagedNode], arguments: Sequence[str] | None = None) -> int:
    """Run a node until it is told to stop; returns the exit code of the process."""
    stop = stop_on_signal()
    if not initialise(arguments):
        return 1
    try:
        node = node_class()
    except SettingsError as error:
        print(f"{node_class.NAME}: {error}", file=sys.stderr, flush=True)
        rclpy.shutdown()
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    timeout = wind_down_timeout(sys.argv if arguments is None else arguments)
    if node_class.STARTS_BY_ITSELF:
        node.trigger_configure()
        if node.is_up:
            node.trigger_activate()
    # It has said why.
    failed = node_class.STARTS_BY_ITSELF and not node.is_active
    while (
        not failed
        and not stop.is_set()
        and not (timeout and node.is_active and node.manager.is_lost)
    ):
        _spin_once(executor, node)
    if not failed and not stop.is_set():
        node.get_logger().error(f"{MANAGER} has fallen silent: nobody watches this stack; ending")
    wind_down(executor, node, timeout, stop)
    # Before the context: an executor that is collected after it reports an invalid handle.
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown()
    return 0 if stop.is_set() else 1


def _spin_once(executor: SingleThreadedExecutor, node: ManagedNode) -> None:
    try:
        executor.spin_once(timeout_sec=_WAIT)
    except Exception as error:  # noqa: BLE001 - one bad callback must not end the node
        node.get_logger().error(f"unexpected: {error!r}")
        node.health.error(repr(error))


def wind_down(
    executor: SingleThreadedExecutor, node: ManagedNode, timeout: float, stop: StopEvent
) -> None:
    """Bring a node down before its process ends.

    Args:
        executor: spins the node, which goes on with its work meanwhile.
        node: to bring down.
        timeout: longest time to leave that to the lifecycle manager, which knows the order [s]; 0
            for a node without one.
        stop: of this process; where it is urgent, the manager is not waited for.
    """
    node.announce_end()
    begun = time.monotonic()
    while (
        node.is_up
        and time.monotonic() < begun + timeout
        and node.manager.is_there
        and not stop.is_urgent
    ):
        _spin_once(executor, node)
    if timeout:
        # Nobody keeps the order: what gives commands ends first, the robot last.
        end = time.monotonic() + _TURN * turn_to_end(node.NAME)
        while node.is_up and time.monotonic() < end and not stop.is_urgent:
            _spin_once(executor, node)
    deadline = time.monotonic() + DEACTIVATION_TIMEOUT
    while node.is_active and time.monotonic() < deadline:
        node.trigger_deactivate()
        # Timers and answers may be what a halt waits for.
        again = time.monotonic() + _TRY_AGAIN
        while node.is_active and time.monotonic() < again:
            _spin_once(executor, node)
    node.shut_down()
    # What still waited is refused by that, and the refusals are to be sent.
    while node.is_answering and time.monotonic() < deadline:
        _spin_once(executor, node)
