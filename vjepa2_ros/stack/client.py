# SPDX-License-Identifier: Apache-2.0
"""The stack from outside: set a goal from image files, cancel it, stop the robot.

An image cannot be typed into `ros2 service call`, so files are read and sent as they are.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.exceptions import InvalidTopicNameException
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import Trigger

from vjepa2_ros.camera.decoding import check_image
from vjepa2_ros.execution.goal_status import TERMINAL
from vjepa2_ros.msg import PlanningStatus, RobotState, ToolState
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.ros.context import init
from vjepa2_ros.ros.conversions import MessageError, compressed_image, image_array, seconds
from vjepa2_ros.ros.image_transport import RAW_TOPIC
from vjepa2_ros.ros.qos import LATCHED, LATEST, STREAM
from vjepa2_ros.settings.declaration import parameters_of
from vjepa2_ros.settings.encoder import EncoderNodeSettings
from vjepa2_ros.settings.files import NAMESPACE
from vjepa2_ros.srv import SetGoal
from vjepa2_ros.stack.security import enclave_arguments
from vjepa2_ros.text import printable

ANSWER_TIMEOUT = 620.0
"""Longest wait for an answer [s]: above the longest `encode_timeout` that a planner may have."""
MAX_BYTES = 100_000_000
"""Most bytes of all images of a request together."""
# The encoder's own limit may be lower; only it knows.
_MAX_PIXELS = round(parameters_of(EncoderNodeSettings)["max_image_megapixels"].maximum * 1e6)
_SETTLING = 0.5
PICTURE_TIMEOUT = 10.0
"""Longest wait for a picture of the camera [s]."""
STATE_TIMEOUT = 2.0
"""Longest wait for a state of the robot, which comes many times a second [s]."""
SILENCE = 15.0
"""Longest silence of the planner while a goal is followed [s]."""


class ClientError(RuntimeError):
    """The stack could not be asked; the text says what to do."""


@dataclass(frozen=True)
class Answer:
    """The stack's answer to a request.

    Attributes:
        accepted: whether it was done.
        message: what was done, or why not; without control characters.
        reason: the same as a code, NONE where the service has none.
        goal_id: name of the new goal in commands and status, empty for other requests.
    """

    accepted: bool
    message: str
    reason: Reason = Reason.NONE
    goal_id: str = ""


def read_images(paths: Sequence[str | Path]) -> list[CompressedImage]:
    """Read image files, checked by their headers.

    Raises:
        ClientError: names the one that cannot be read, is no JPEG, PNG or WebP, or is too large.
    """
    return [compressed_image(_read_image(Path(path).expanduser())) for path in paths]


def _read_image(path: Path) -> bytes:
    name = printable(str(path))
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ClientError(f"cannot read {name}: it is not a regular file")
        if status.st_size > MAX_BYTES:
            raise ClientError(
                f"{name} has {status.st_size / 1e6:.0f} MB, more than {MAX_BYTES / 1e6:.0f}: "
                "scale the image down"
            )
        data = path.read_bytes()
        check_image(data, _MAX_PIXELS)
    except OSError as error:
        raise ClientError(f"cannot read {name}: {error.strerror or error}") from error
    except ValueError as error:
        # ImageError, or a path with a null character.
        raise ClientError(f"{name}: {error}") from error
    return data


def png(image: np.ndarray) -> bytes:
    """Content of a PNG file of an image uint8 RGB [H, W, 3]."""
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return data.tobytes()


class StackClient:
    """Calls the services of a running stack. A context manager; use one per question or few.

    Args:
        namespace: of the stack.

    Raises:
        ClientError: the namespace is invalid, or ROS cannot be started.
    """

    def __init__(self, namespace: str = NAMESPACE) -> None:
        self._context = Context()
        try:
            init(["--ros-args", *enclave_arguments("client", namespace)], self._context)
            self._node = rclpy.create_node("client", namespace=namespace, context=self._context)
        except Exception as error:
            self._context.try_shutdown()
            raise ClientError(f"cannot start a ROS node in {namespace!r}: {error}") from error
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
        states: Sequence[ToolState] = (),
    ) -> Answer:
        """Send goal images.

        Args:
            images: one for each sub-goal, in order.
            steps: to spend on each; empty for the planner's default.
            gripper: "planned", "open", "hold" or "close" for each; empty for planned.
            states: of the robot in each; empty where they are unknown.

        Returns:
            Whether they were accepted, once they are encoded.

        Raises:
            ClientError: the request is too large or invalid, or there was no answer.
        """
        size = sum(len(image.data) for image in images)
        if size > MAX_BYTES:
            raise ClientError(
                f"the images have {size / 1e6:.0f} MB together, more than {MAX_BYTES / 1e6:.0f}: "
                "scale them down, or send fewer sub-goals"
            )
        try:
            request = SetGoal.Request(
                images=images, steps=steps, gripper=gripper, states=states
            )
        except (AssertionError, TypeError, ValueError, OverflowError) as error:
            raise ClientError(f"the goal cannot be sent: {printable(str(error))}") from error
        answer = self._call(SetGoal, "set_goal", request)
        return Answer(
            answer.accepted,
            printable(answer.message),
            Reason.of(answer.reason),
            printable(answer.goal_id),
        )

    def picture(self, topic: str = RAW_TOPIC, timeout: float = PICTURE_TIMEOUT) -> np.ndarray:
        """The next image of the camera, uint8 RGB [H, W, 3].

        Args:
            topic: of sensor_msgs/msg/Image, or of CompressedImage where its name ends with
                "compressed".
            timeout: longest wait [s].

        Raises:
            ClientError: none came in time, or it cannot be used.
        """
        _, image = self.pictures(topic, 1, timeout)[0]
        return image

    def pictures(
        self, topic: str, count: int, timeout: float = PICTURE_TIMEOUT
    ) -> list[tuple[float, np.ndarray]]:
        """The next images of a topic.

        Args:
            topic: see `picture`.
            count: number of images.
            timeout: longest wait for each [s].

        Returns:
            (stamp [s], uint8 RGB [H, W, 3]) of each.

        Raises:
            ClientError: one did not come in time, or cannot be used.
        """
        kind = CompressedImage if topic.endswith("compressed") else Image
        taken: list[Any] = []
        try:
            subscription = self._node.create_subscription(kind, topic, taken.append, LATEST)
        except (InvalidTopicNameException, ValueError) as error:
            text = printable(str(error).splitlines()[0])
            raise ClientError(f"{printable(topic)!r} is no topic: {text}") from error
        try:
            heard, deadline = 0, time.monotonic() + timeout
            while len(taken) < count:
                if len(taken) > heard:
                    heard, deadline = len(taken), time.monotonic() + timeout
                if time.monotonic() > deadline:
                    raise ClientError(
                        f"no image on {self._node.resolve_topic_name(topic)} within "
                        f"{timeout:.0f} s: is the stack up, and the camera running?"
                    )
                self._executor.spin_once(timeout_sec=0.1)
            return [
                (seconds(message.header.stamp), image_array(message, _MAX_PIXELS))
                for message in taken[:count]
            ]
        except (MessageError, ValueError) as error:
            raise ClientError(f"the image cannot be used: {printable(str(error))}") from error
        finally:
            self._node.destroy_subscription(subscription)

    def state(self, timeout: float = STATE_TIMEOUT) -> ToolState | None:
        """Where the robot is, for a picture of this moment; None if nobody says so in time.

        Args:
            timeout: longest wait [s].
        """
        heard: list[RobotState] = []
        subscription = self._node.create_subscription(
            RobotState, "robot_state", heard.append, STREAM
        )
        try:
            deadline = time.monotonic() + timeout
            while not heard and time.monotonic() < deadline:
                self._executor.spin_once(timeout_sec=0.1)
        finally:
            self._node.destroy_subscription(subscription)
        if not heard:
            return None
        return ToolState(pose=heard[-1].pose, gripper_closedness=heard[-1].gripper_closedness)

    def follow(self, begin: Callable[[], Answer]) -> Iterator[PlanningStatus]:
        """Follow a goal from its request to its end.

        Args:
            begin: sets the goal, with this client; called once its status can be heard.

        Yields:
            Every status of the goal, the last one of its end; nothing if it was refused.

        Raises:
            ClientError: as `set_goal`, or the planner fell silent before the end.
        """
        heard: list[PlanningStatus] = []
        subscription = self._node.create_subscription(
            PlanningStatus, "status", heard.append, LATCHED
        )
        try:
            answer = begin()
            if not answer.accepted:
                return
            last = time.monotonic()
            while True:
                self._executor.spin_once(timeout_sec=0.1)
                statuses = [status for status in heard if status.goal_id == answer.goal_id]
                heard.clear()
                if statuses:
                    last = time.monotonic()
                yield from statuses
                if statuses and statuses[-1].state in TERMINAL:
                    return
                if time.monotonic() > last + SILENCE:
                    raise ClientError(
                        f"nothing was heard of {answer.goal_id} for {SILENCE:.0f} s: it may be "
                        "pursued still, see the stack's output"
                    )
        finally:
            self._node.destroy_subscription(subscription)

    def cancel(self) -> Answer:
        """End the goal in flight; the robot holds at the end of its step."""
        return self._trigger("cancel")

    def halt(self) -> Answer:
        """Halt the robot, which ends the goal in flight; the planner need not be there."""
        return self._trigger("halt")

    def reset_fault(self) -> Answer:
        """Have the controller take commands again after a fault."""
        return self._trigger("reset_fault")

    def _trigger(self, name: str) -> Answer:
        answer = self._call(Trigger, name, Trigger.Request())
        return Answer(answer.success, printable(answer.message))

    def _call(self, service: type, name: str, request: Any) -> Any:
        """Wait for a service and for its answer."""
        client = self._node.create_client(service, name)
        try:
            deadline = time.monotonic() + 10.0
            while not client.service_is_ready():
                if time.monotonic() > deadline:
                    raise ClientError(
                        f"the service {self._namespace}/{name} is not available: start the stack "
                        "(`vjepa2-ros up` "
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
        try:
            future = client.call_async(request)
        except UnicodeEncodeError as error:
            raise ClientError(f"the request cannot be sent: {error}") from error
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
