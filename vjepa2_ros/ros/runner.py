# SPDX-License-Identifier: Apache-2.0
"""Runs one node as a process: start, spin, and a clean end on Ctrl-C or SIGTERM."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from vjepa2_ros.ros.managed_node import ManagedNode
from vjepa2_ros.ros.signals import stop_on_signal
from vjepa2_ros.settings.declaration import SettingsError

# How soon a signal is seen while nothing happens: Python handles it between two waits.
_WAIT = 0.1


def initialise(arguments: Sequence[str] | None) -> bool:
    """Initialise rclpy; False with a message if the arguments are bad.

    Without rclpy's own signal handlers: they shut the context down at once, and a node could no
    longer halt the robot nor say goodbye.
    """
    try:
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # noqa: BLE001 - rclpy raises several types for bad arguments
        print(f"ROS arguments refused: {error}", file=sys.stderr, flush=True)
        return False
    return True


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
    while not stop.is_set():
        try:
            executor.spin_once(timeout_sec=_WAIT)
        except Exception as error:  # noqa: BLE001 - one bad callback must not end the node
            node.get_logger().error(f"unexpected: {error!r}")
            node.health.error(repr(error))
    node.shut_down()
    executor.remove_node(node)
    node.destroy_node()
    rclpy.shutdown()
    return 0
