# SPDX-License-Identifier: Apache-2.0
"""A camera: a node of your own that publishes `camera/image_raw`, here a moving test pattern.

It replaces `camera_node`. Start it and the encoder, for instance, each in a terminal of its own:

    .venv/bin/python examples/pattern_camera.py --ros-args -r __ns:=/vjepa2
    .venv/bin/python -m vjepa2_ros.nodes encoder_node --ros-args -r __ns:=/vjepa2
    .venv/bin/python -m vjepa2_ros.nodes lifecycle_manager --ros-args -r __ns:=/vjepa2 \
        -p "nodes:=[encoder_node]"

With controller_node and planner_node running as well, and in `nodes`, the stack is complete.
"""

from __future__ import annotations

import sys

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import Image

from vjepa2_ros.ros.conversions import image_message
from vjepa2_ros.ros.qos import LATEST

SIZE = 256
PERIOD = 0.1


class PatternCamera(Node):
    """Publishes a square image ten times a second."""

    def __init__(self) -> None:
        super().__init__("pattern_camera")
        # Best effort, depth 1: a lost image is not worth waiting for.
        self._images = self.create_publisher(Image, "camera/image_raw", LATEST)
        self.create_timer(PERIOD, self._publish)

    def _publish(self) -> None:
        # The stamp is the time of capture, on the clock of the robot's states.
        captured = self.get_clock().now().nanoseconds * 1e-9
        self._images.publish(image_message(pattern(captured), captured, "camera"))


def pattern(time: float) -> np.ndarray:
    """Image uint8 RGB [256, 256, 3]: a gradient that moves to the right."""
    row = (np.arange(SIZE) - int(50 * time)) % SIZE
    return np.stack([np.tile(row, (SIZE, 1))] * 3, axis=-1).astype(np.uint8)


def main() -> None:
    """Run until Ctrl-C."""
    rclpy.init(args=sys.argv)
    try:
        rclpy.spin(PatternCamera())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass


if __name__ == "__main__":
    main()
