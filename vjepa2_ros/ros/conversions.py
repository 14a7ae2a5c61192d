# SPDX-License-Identifier: Apache-2.0
"""Between ROS messages and the arrays and records of the core, checked on the way in."""

from __future__ import annotations

import math
from array import array
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point, Pose, Quaternion, WrenchStamped
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Header

from vjepa2_ros.msg import Command
from vjepa2_ros.msg import RobotState as RobotStateMessage
from vjepa2_ros.robot.controller import MotionController
from vjepa2_ros.robot.driver import RobotDescription, RobotMode, RobotState
from vjepa2_ros.robot.safety import MotionCommand

_CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}
_TO_RGB = {
    "bgr8": cv2.COLOR_BGR2RGB,
    "rgba8": cv2.COLOR_RGBA2RGB,
    "bgra8": cv2.COLOR_BGRA2RGB,
    "mono8": cv2.COLOR_GRAY2RGB,
}


class MessageError(ValueError):
    """A message cannot be used; the text says why."""


# Time ---------------------------------------------------------------------------------------


def seconds(time: Time | Duration) -> float:
    """Stamp or duration in seconds."""
    return time.sec + time.nanosec * 1e-9


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


def image_array(message: Image) -> np.ndarray:
    """Pixels of an image message.

    Args:
        message: in one of the encodings rgb8, bgr8, rgba8, bgra8 and mono8.

    Returns:
        uint8 RGB [height, width, 3].

    Raises:
        MessageError: it has another encoding, or its fields contradict each other.
    """
    channels = _CHANNELS.get(message.encoding)
    if channels is None:
        raise MessageError(
            f"image encoding {message.encoding!r} is not supported; publish one of "
            + ", ".join(_CHANNELS)
        )
    row = message.width * channels
    if message.step < row or len(message.data) != message.step * message.height:
        raise MessageError(
            f"image of {message.width}x{message.height} {message.encoding} with rows of "
            f"{message.step} bytes holds {len(message.data)} bytes"
        )
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    image = rows[:, :row].reshape(message.height, message.width, channels)
    if message.encoding == "rgb8":
        return image
    return cv2.cvtColor(np.ascontiguousarray(image), _TO_RGB[message.encoding])


# Poses --------------------------------------------------------------------------------------


def pose_message(position: Any, quaternion_xyzw: Any) -> Pose:
    """Pose message of a position [3] in metres and a quaternion [4]."""
    x, y, z = (float(value) for value in position)
    i, j, k, w = (float(value) for value in quaternion_xyzw)
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=i, y=j, z=k, w=w))


def pose_arrays(pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """Position [3] in metres and quaternion xyzw [4] of a pose message."""
    position, orientation = pose.position, pose.orientation
    return (
        np.array([position.x, position.y, position.z]),
        np.array([orientation.x, orientation.y, orientation.z, orientation.w]),
    )


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


def robot_state(message: RobotStateMessage) -> RobotState:
    """Measured state of a message; one without a known mode is taken as FAULTED."""
    commanded = message.commanded_closedness
    known = message.mode in RobotMode._value2member_map_
    return RobotState(
        *pose_arrays(message.pose),
        message.gripper_closedness,
        seconds(message.header.stamp),
        None if math.isnan(commanded) else commanded,
        mode=RobotMode(message.mode) if known else RobotMode.FAULTED,
        mode_text=message.mode_message if known else "the state was sent without a mode",
        joint_positions=_optional(message.joint_positions),
        joint_velocities=_optional(message.joint_velocities),
        wrench=_optional(message.wrench),
    )


def _numbers(values: np.ndarray | None) -> array:
    return array("d", () if values is None else values)


def _optional(values: array) -> np.ndarray | None:
    return np.array(values) if len(values) else None


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


def motion_command(message: Command) -> MotionCommand:
    """Command for the gate, unchecked."""
    position, quaternion = pose_arrays(message.pose)
    return MotionCommand(
        goal_id=message.goal_id,
        sequence=message.sequence,
        observation_stamp=seconds(message.header.stamp),
        position=position,
        quaternion_xyzw=quaternion,
        gripper_closedness=message.gripper_closedness,
        lifetime=seconds(message.lifetime),
        frame=message.header.frame_id,
    )
