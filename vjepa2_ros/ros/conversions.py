# SPDX-License-Identifier: Apache-2.0
"""Between ROS messages and the arrays and records of the core, checked on the way in."""

from __future__ import annotations

import math
from array import array
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point, Pose, Quaternion, WrenchStamped
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Header

from vjepa2_ros.camera.decoding import MAX_PIXELS, ImageError
from vjepa2_ros.camera.encodings import EncodingError
from vjepa2_ros.msg import Latent
from vjepa2_ros.msg import RobotState as RobotStateMessage
from vjepa2_ros.recording.messages import image_pixels
from vjepa2_ros.recording.messages import motion_command as motion_command
from vjepa2_ros.recording.messages import pose_arrays as pose_arrays
from vjepa2_ros.recording.messages import robot_state as robot_state
from vjepa2_ros.recording.messages import seconds as seconds
from vjepa2_ros.robot.controller import MotionController
from vjepa2_ros.robot.driver import RobotDescription, RobotState

LATENT_TYPES: dict[int, np.dtype] = {
    Latent.FLOAT32: np.dtype("<f4"),
    Latent.FLOAT16: np.dtype("<f2"),
}
"""Numbers of the encodings of a latent."""


class MessageError(ValueError):
    """A message cannot be used; the text says why."""


# Time ---------------------------------------------------------------------------------------


def stamp(time: float) -> Time:
    """Stamp of a time in seconds."""
    return Time(**_split(time))


def duration(time: float) -> Duration:
    """Duration of a time in seconds."""
    return Duration(**_split(time))


def _split(time: float) -> dict[str, int]:
    sec, nanosec = divmod(round(time * 1e9), 1_000_000_000)
    return {"sec": sec, "nanosec": nanosec}


# Images -------------------------------------------------------------------------------------


def image_message(image: np.ndarray, time: float, frame_id: str) -> Image:
    """Message of an image.

    Args:
        image: uint8 RGB [height, width, 3].
        time: of its capture [s].
        frame_id: the camera's optical frame.
    """
    height, width, _ = image.shape
    return Image(
        header=Header(stamp=stamp(time), frame_id=frame_id),
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=width * 3,
        # An array.array is taken as it is; any other sequence is checked number by number, which
        # costs seconds for a large image.
        data=array("B", np.ascontiguousarray(image).tobytes()),
    )


def camera_info(matrix: np.ndarray, width: int, height: int) -> CameraInfo:
    """Camera info of an undistorted pinhole camera.

    Args:
        matrix: K [3, 3] in pixels; a focal length of 0 marks a camera that is not calibrated.
        width: of the images, in pixels.
        height: of the images, in pixels.
    """
    return CameraInfo(
        width=width,
        height=height,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=matrix.astype(np.float64).ravel(),
        r=np.eye(3).ravel(),
        p=np.hstack([matrix, np.zeros((3, 1))]).ravel(),
    )


def image_array(message: Image | CompressedImage, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Pixels of an image message.

    Args:
        message: in one of the encodings of `camera.encodings`, or compressed.
        max_pixels: largest width times height of a compressed one.

    Returns:
        uint8 RGB [height, width, 3].

    Raises:
        MessageError: it has another encoding, its fields contradict each other, or what is
            compressed cannot be decoded.
    """
    try:
        return image_pixels(message, max_pixels)
    except (EncodingError, ImageError) as error:
        raise MessageError(str(error)) from error


def compressed_image(data: bytes) -> CompressedImage:
    """Message of a JPEG, PNG or WebP, checked by the node that decodes it."""
    starts = {"png": b"\x89PNG", "webp": b"RIFF"}
    kind = next((kind for kind, start in starts.items() if data.startswith(start)), "jpeg")
    return CompressedImage(format=kind, data=array("B", data))


# Latents ------------------------------------------------------------------------------------


def latent_array(message: Latent) -> np.ndarray:
    """Tokens float32 [rows * columns, channels] of a latent in one of its encodings.

    Raises:
        MessageError: its fields contradict each other, or it is not finite.
    """
    if message.encoding not in LATENT_TYPES:
        raise MessageError(f"latent in unknown encoding {message.encoding}")
    kind = LATENT_TYPES[message.encoding]
    count = message.rows * message.columns * message.channels
    if not count or len(message.data) != count * kind.itemsize:
        raise MessageError(
            f"latent of {count} numbers in {len(message.data)} bytes, not {count * kind.itemsize}"
        )
    values = np.frombuffer(message.data, kind).astype(np.float32)
    if not np.isfinite(values).all():
        raise MessageError("latent is not finite: the encoder or its image is broken")
    return values.reshape(-1, message.channels)


def cropped(image: np.ndarray, latent: Latent) -> np.ndarray:
    """The part of an image [H, W, 3] that a latent was made from; all of it if that is unknown."""
    top, left = latent.crop_top, latent.crop_left
    height, width = latent.crop_height, latent.crop_width
    if not height or not width or top + height > len(image) or left + width > image.shape[1]:
        return image
    return image[top : top + height, left : left + width]


# Poses --------------------------------------------------------------------------------------


def pose_message(position: Any, quaternion_xyzw: Any) -> Pose:
    """Pose message of a position [3] in metres and a quaternion [4]."""
    x, y, z = (float(value) for value in position)
    i, j, k, w = (float(value) for value in quaternion_xyzw)
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=i, y=j, z=k, w=w))


def robot_state_message(state: RobotState, frame_id: str, **fields: Any) -> RobotStateMessage:
    """Message of a measured state; `fields` are the message's further fields."""
    return RobotStateMessage(
        header=Header(stamp=stamp(state.stamp), frame_id=frame_id),
        pose=pose_message(state.position, state.quaternion_xyzw),
        gripper_closedness=float(state.gripper_closedness),
        commanded_closedness=math.nan
        if state.commanded_closedness is None
        else float(state.commanded_closedness),
        joint_positions=_numbers(state.joint_positions),
        joint_velocities=_numbers(state.joint_velocities),
        wrench=_numbers(state.wrench),
        mode=int(state.mode),
        mode_message=state.mode_text,
        **fields,
    )


def controller_state_message(
    controller: MotionController, state: RobotState, frame_id: str
) -> RobotStateMessage:
    """Message of a measured state and of what the controller did last."""
    return robot_state_message(
        state,
        frame_id,
        moving=controller.moving,
        goal_id=controller.accepted[0],
        sequence=controller.accepted[1],
        refused_goal_id=controller.refused[0],
        refused_sequence=controller.refused[1],
        refused_reason=int(controller.refused_reason),
        halts=controller.halts,
        last_halt=stamp(controller.last_halt),
        reason=int(controller.reason),
        message=controller.message,
        fault_reason=int(controller.fault_reason),
        fault=controller.fault,
    )


def _numbers(values: np.ndarray | None) -> array:
    return array("d", () if values is None else values)


def joint_state_message(state: RobotState, description: RobotDescription) -> JointState:
    """Message of the joints of a state that has them."""
    return JointState(
        header=Header(stamp=stamp(state.stamp)),
        name=list(description.joint_names),
        position=_numbers(state.joint_positions),
        velocity=_numbers(state.joint_velocities),
    )


def wrench_message(state: RobotState, frame_id: str) -> WrenchStamped:
    """Message of the external force of a state that has one."""
    message = WrenchStamped(header=Header(stamp=stamp(state.stamp), frame_id=frame_id))
    force, torque = message.wrench.force, message.wrench.torque
    force.x, force.y, force.z, torque.x, torque.y, torque.z = map(float, state.wrench)
    return message
