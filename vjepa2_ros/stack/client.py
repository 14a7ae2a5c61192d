# SPDX-License-Identifier: Apache-2.0
"""The stack from outside: set a goal from image files, cancel it, stop the robot.

Nobody types the bytes of an image into `ros2 service call`; so a file is read and sent as it is.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CompressedImage
from std_srvs.srv import Trigger

from vjepa2_ros.settings.files import NAMESPACE
from vjepa2_ros.srv import SetGoal

ANSWER_TIMEOUT = 620.0
"""Longest wait for an answer [s]: above the longest `encode_timeout` that a planner may have."""
_SETTLING = 0.5


class ClientError(RuntimeError):
    """The stack could not be asked; the text says what to do."""


def compressed_image(data: bytes) -> CompressedImage:
    """Message of a JPEG or PNG, checked by the node that decodes it."""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return CompressedImage(format=kind, data=array("B", data))


def read_images(paths: Sequence[str | Path]) -> list[CompressedImage]:
    """Messages of image files; ClientError names the one that cannot be read."""
    images = []
    for path in paths:
        try:
            images.append(compressed_image(Path(path).expanduser().read_bytes()))
        except OSError as error:
            raise ClientError(f"cannot read {path}: {error.strerror}") from error
    return images


class StackClient:
    """Calls the services of a running stack. Use it as a context manager.

    Its own context: it may live in a process that uses rclpy otherwise.
    """

    def __init__(self, namespace: str = NAMESPACE) -> None:
        self._context = Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node("client", namespace=namespace, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._namespace = namespace

    def __enter__(self) -> StackClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def set_goal(
        self,
        images: Sequence[CompressedImage],
        steps: Sequence[int] = (),
        gripper: Sequence[str] = (),
    ) -> SetGoal.Response:
        """Send goal images, one for each sub-goal; the answer says whether they were accepted."""
        request = SetGoal.Request(images=images, steps=steps, gripper=gripper)
        return self._call(SetGoal, "set_goal", request)

    def cancel(self) -> Trigger.Response:
        """End the goal in flight; the robot holds at the end of its step."""
        return self._call(Trigger, "cancel", Trigger.Request())

    def stop(self) -> Trigger.Response:
        """End the goal in flight and halt the robot now."""
        return self._call(Trigger, "stop", Trigger.Request())

    def _call(self, service: type, name: str, request: Any) -> Any:
        client = self._node.create_client(service, name)
        try:
            deadline = time.monotonic() + 10.0
            while not client.service_is_ready():
                if time.monotonic() > deadline:
                    raise ClientError(
                        f"nobody offers {self._namespace}/{name}: start the stack (`vjepa2-ros up` "
                        "or `ros2 launch vjepa2_ros pick_place.launch.py`), with the same "
                        "ROS_DOMAIN_ID"
                    )
                self._executor.spin_once(timeout_sec=0.1)
            # The other side must have found this one, too, or its answer is lost.
            settled = time.monotonic() + _SETTLING
            while time.monotonic() < settled:
                self._executor.spin_once(timeout_sec=0.1)
            return self._answer(client, name, request)
        finally:
            self._node.destroy_client(client)

    def _answer(self, client: Any, name: str, request: Any) -> Any:
        """Wait as long as the service is offered: only the other side knows how long it takes."""
        future = client.call_async(request)
        offered = time.monotonic()
        deadline = offered + ANSWER_TIMEOUT
        while not future.done():
            self._executor.spin_once(timeout_sec=0.1)
            if client.service_is_ready():
                offered = time.monotonic()
            # An answer sent last of all may still be on its way.
            elif time.monotonic() > offered + _SETTLING:
                raise ClientError(
                    f"{self._namespace}/{name} went away before it answered: see why the stack "
                    "went down, start it and ask again"
                )
            if time.monotonic() > deadline:
                raise ClientError(f"{name} gave no answer within {ANSWER_TIMEOUT:.0f} s")
        return future.result()
