# SPDX-License-Identifier: Apache-2.0
"""Listens to what others publish: the nodes' heartbeats, and a camera."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.exceptions import NameValidationException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image

from vjepa2_ros.preflight.camera import CameraReading, reading_of
from vjepa2_ros.preflight.ros_environment import instances
from vjepa2_ros.ros.context import init
from vjepa2_ros.ros.conversions import MessageError, image_array, seconds
from vjepa2_ros.ros.qos import LATEST


def hosts_of_nodes(duration: float, enough: Callable[[dict], bool] = lambda _: False) -> dict:
    """Nodes of this package by the host that they run on, from their heartbeats.

    Args:
        duration: how long to listen [s]; a node sends one a second.
        enough: ends it earlier, asked after each message with what is found.

    Raises:
        RosError: ROS cannot be started.
    """
    heard: set[tuple[str, str]] = set()

    def on_message(message: DiagnosticArray) -> None:
        for status in message.status:
            for entry in status.values:
                if entry.key == "instance":
                    heard.add((status.name, entry.value))

    end = time.monotonic() + duration
    # A participant that begins while another one ends may hear nothing for ever, see
    # `runner.check_parameters`: after silence for half the time, another one listens.
    for silence in (end - duration / 2, end):
        with _listener() as (node, executor):
            node.create_subscription(DiagnosticArray, "/diagnostics", on_message, 50)
            while time.monotonic() < (end if heard else silence) and not enough(instances(heard)):
                executor.spin_once(timeout_sec=0.1)
        if heard:
            break
    return instances(heard)


def read_topic(topic: str, wait: float, duration: float) -> CameraReading | str:
    """Take images from a topic; a text says why there are none.

    Args:
        topic: of sensor_msgs/msg/Image.
        wait: longest for the first image [s].
        duration: from the first to the last image [s].

    Raises:
        RosError: ROS cannot be started.
    """
    times: list[float] = []
    ages: list[float] = []
    last: list[np.ndarray | str] = []

    def on_image(message: Image) -> None:
        times.append(time.monotonic())
        ages.append(time.time() - seconds(message.header.stamp))
        try:
            last[:] = [image_array(message)]
        except MessageError as error:
            last[:] = [str(error)]

    with _listener() as (node, executor):
        try:
            node.create_subscription(Image, topic, on_image, LATEST)
        except NameValidationException as error:
            return str(error).splitlines()[0]
        deadline = time.monotonic() + wait
        while time.monotonic() < (times[0] + duration if times else deadline):
            executor.spin_once(timeout_sec=0.1)
        publishers = node.count_publishers(topic)
    if not last:
        return f"no image on {topic} within {wait:g} s; it has {publishers} publishers"
    return last[0] if isinstance(last[0], str) else reading_of(last[0], times, ages)


@contextmanager
def _listener() -> Iterator[tuple[Node, SingleThreadedExecutor]]:
    context = Context()
    init(context=context)
    executor = SingleThreadedExecutor(context=context)
    node = rclpy.create_node("preflight", context=context)
    executor.add_node(node)
    try:
        yield node, executor
    finally:
        executor.shutdown()
        node.destroy_node()
        context.try_shutdown()
