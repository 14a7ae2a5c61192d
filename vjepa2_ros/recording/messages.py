# SPDX-License-Identifier: Apache-2.0
"""Records of the core from messages, whether rclpy received them or a bag holds them.

Both give objects with the fields of the message; nothing here asks which of them it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vjepa2_ros.camera.decoding import MAX_PIXELS, decode_image
from vjepa2_ros.camera.encodings import rgb_of
from vjepa2_ros.robot.driver import RobotMode, RobotState
from vjepa2_ros.robot.safety import MotionCommand

FARTHEST = 10.0
"""Positions farther from the robot's base are no metres [m]."""


def seconds(time: Any) -> float:
    """Time or duration message in seconds."""
    return time.sec + time.nanosec * 1e-9


def image_pixels(message: Any, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Pixels uint8 RGB [height, width, 3] of an Image or a CompressedImage message.

    Args:
        message: raw, in one of the encodings of `camera.encodings`, or compressed.
        max_pixels: largest width times height of a compressed one.

    Raises:
        EncodingError: it has an encoding without colours, or its fields contradict each other.
        ImageError: it is compressed, and cannot be decoded.
    """
    if not hasattr(message, "encoding"):
        return decode_image(bytes(message.data), max_pixels)
    return rgb_of(
        message.data,
        message.encoding,
        message.width,
        message.height,
        message.step,
        bool(message.is_bigendian),
    )


def pose_arrays(pose: Any) -> tuple[np.ndarray, np.ndarray]:
    """Position [3] in metres and quaternion xyzw [4] of a Pose message."""
    position, orientation = pose.position, pose.orientation
    return (
        np.array([position.x, position.y, position.z]),
        np.array([orientation.x, orientation.y, orientation.z, orientation.w]),
    )


def robot_state(message: Any) -> RobotState:
    """Measured state of a RobotState message; one without a known mode is taken as FAULTED."""
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


def tool_states(messages: Sequence[Any]) -> np.ndarray | None:
    """States of the robot [G, 7] of ToolState messages, as the predictor takes them; None: none.

    Raises:
        ValueError: names the state whose pose is not finite, has no orientation or is farther than
            `FARTHEST`, or whose closedness is not 0 to 1.
    """
    from vjepa2_ros.world_model.poses import state_from_pose  # torch takes seconds to import

    if not len(messages):
        return None
    states = []
    for number, message in enumerate(messages, start=1):
        name = f"state {number} of {len(messages)}"
        try:
            state = state_from_pose(*pose_arrays(message.pose), message.gripper_closedness)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        if np.abs(state[:3]).max() > FARTHEST:
            raise ValueError(
                f"{name} is {np.abs(state[:3]).max():g} m from the base: positions are metres, of "
                f"at most {FARTHEST:g}"
            )
        if not 0 <= state[6] <= 1:
            raise ValueError(f"{name}: the closedness is 0 (open) to 1 (closed), not {state[6]:g}")
        states.append(state)
    return np.stack(states)


def motion_command(message: Any) -> MotionCommand:
    """Command for the gate of a Command message, unchecked."""
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


def _optional(values: Any) -> np.ndarray | None:
    return np.array(values) if len(values) else None
