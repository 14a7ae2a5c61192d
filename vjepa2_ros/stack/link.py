# SPDX-License-Identifier: Apache-2.0
"""The page's way to the stack: the newest message of each topic, and the services.

A ROS client like any other: it can do nothing that the services do not allow.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_srvs.srv import Trigger
from visualization_msgs.msg import MarkerArray

from vjepa2_ros.msg import Goal, PlanningStatus, RobotState
from vjepa2_ros.ros.context import init
from vjepa2_ros.ros.image_transport import COMPRESSED_TOPIC, RAW_TOPIC
from vjepa2_ros.ros.qos import LATCHED, LATEST, STREAM, VIEW
from vjepa2_ros.settings.files import NAMESPACE
from vjepa2_ros.srv import SetGoal
from vjepa2_ros.stack.security import enclave_arguments
from vjepa2_ros.text import printable

SERVICES: dict[str, type] = {
    "set_goal": SetGoal,
    "cancel": Trigger,
    "halt": Trigger,
    "reset_fault": Trigger,
}
"""Services that the page calls."""


@dataclass(frozen=True)
class Answer:
    """What a service said.

    Attributes:
        done: whether it did what it was asked for.
        message: what was done, or why not; without control characters.
    """

    done: bool
    message: str


class StackLink:
    """A node in a thread of its own. A context manager.

    Args:
        namespace: of the stack.
        compressed: whether the camera's images are taken as JPEG.

    Raises:
        RosError: ROS cannot be started.
    """

    def __init__(self, namespace: str = NAMESPACE, compressed: bool = False) -> None:
        self._context = Context()
        init(["--ros-args", *enclave_arguments("panel", namespace)], self._context)
        self._node = rclpy.create_node("panel", namespace=namespace, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._lock = threading.Lock()
        self._newest: dict[str, tuple[int, Any]] = {}
        image = (CompressedImage, COMPRESSED_TOPIC) if compressed else (Image, RAW_TOPIC)
        topics: Sequence[tuple[str, type, str, Any]] = (
            ("image", *image, LATEST),
            ("camera_info", CameraInfo, "camera/camera_info", LATEST),
            ("status", PlanningStatus, "status", LATCHED),
            ("goal", Goal, "goal", LATCHED),
            ("robot_state", RobotState, "robot_state", STREAM),
            ("joints", JointState, "joint_states", STREAM),
            ("markers", MarkerArray, "visualization/markers", VIEW),
            ("difference", Image, "visualization/difference", VIEW),
        )
        for name, kind, topic, qos in topics:
            self._node.create_subscription(kind, topic, partial(self._keep, name), qos)
        self._clients = {
            name: self._node.create_client(kind, name) for name, kind in SERVICES.items()
        }
        self._closing = False
        self._thread = threading.Thread(target=self._spin, name="panel", daemon=True)
        self._thread.start()

    def __enter__(self) -> StackLink:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        self._thread.join()
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def newest(self, name: str, after: int = 0) -> tuple[int, Any]:
        """The newest message of a topic.

        Args:
            name: of the topic.
            after: number of the message that is known already.

        Returns:
            Its number, from 1, and the message; None for one that is not newer.
        """
        with self._lock:
            number, message = self._newest.get(name, (0, None))
        return number, message if number > after else None

    def call(self, name: str, request: Any, then: Callable[[Answer], None]) -> None:
        """Call a service; `then` gets its answer, in the node's thread.

        Any number of calls may be under way: a stop never waits for a goal that is being encoded.
        """
        client = self._clients[name]
        if not client.service_is_ready():
            then(Answer(False, f"{name} is not available: is the stack up?"))
            return
        future = client.call_async(request)
        future.add_done_callback(lambda done: then(_answer(done.result())))

    def _keep(self, name: str, message: Any) -> None:
        with self._lock:
            number, _ = self._newest.get(name, (0, None))
            self._newest[name] = number + 1, message

    def _spin(self) -> None:
        while not self._closing:
            try:
                self._executor.spin_once(timeout_sec=0.1)
            except Exception as error:  # noqa: BLE001 - one bad answer must not end the page
                self._node.get_logger().error(printable(f"unexpected: {error!r}"))


def _answer(response: Any) -> Answer:
    done = response.accepted if hasattr(response, "accepted") else response.success
    return Answer(done, printable(response.message))
