# SPDX-License-Identifier: Apache-2.0
"""Bags of a stack for the tests, written message by message."""

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer

from vjepa2_ros.recording.definitions import typestore

STORE = typestore()


def message(name, **fields):
    return STORE.types[name](**fields)


def time_of(seconds):
    sec, nanosec = divmod(round(seconds * 1e9), 1_000_000_000)
    return message("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)


def header(seconds, frame="base"):
    return message("std_msgs/msg/Header", stamp=time_of(seconds), frame_id=frame)


def pose(position, quaternion):
    x, y, z = map(float, position)
    i, j, k, w = map(float, quaternion)
    return message(
        "geometry_msgs/msg/Pose",
        position=message("geometry_msgs/msg/Point", x=x, y=y, z=z),
        orientation=message("geometry_msgs/msg/Quaternion", x=i, y=j, z=k, w=w),
    )


def picture(image):
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return np.frombuffer(data.tobytes(), np.uint8)


def compressed(image, stamp=0.0):
    return message(
        "sensor_msgs/msg/CompressedImage",
        header=header(stamp, "camera"), format="png", data=picture(image),
    )  # fmt: skip


def goal(goal_id, images, steps, gripper):
    return message(
        "vjepa2_ros/msg/Goal",
        header=header(0.0, "camera"),
        goal_id=goal_id,
        images=[compressed(image) for image in images],
        latents=[],
        steps=np.array(steps, np.uint32),
        gripper=list(gripper),
        states=[],
    )


def robot_state(stamp, position, quaternion, closedness, joints=()):
    none = np.zeros(0)
    return message(
        "vjepa2_ros/msg/RobotState",
        header=header(stamp), sender="controller", pose=pose(position, quaternion),
        gripper_closedness=closedness, commanded_closedness=closedness,
        joint_positions=np.array(joints), joint_velocities=none, wrench=none,
        mode=1, mode_message="", moving=False, goal_id="", sequence=0, refused_goal_id="",
        refused_sequence=0, refused_reason=0, halts=0, last_halt=time_of(0.0), reason=30,
        message="", fault_reason=0, fault="",
    )  # fmt: skip


def command(goal_id, sequence, stamp, position, quaternion, closedness):
    return message(
        "vjepa2_ros/msg/Command",
        header=header(stamp), sender="planner", goal_id=goal_id, sequence=sequence,
        pose=pose(position, quaternion), gripper_closedness=closedness,
        lifetime=message("builtin_interfaces/msg/Duration", sec=0, nanosec=0),
        reason=100, message="",
    )  # fmt: skip


def image(stamp, pixels):
    height, width, _ = pixels.shape
    return message(
        "sensor_msgs/msg/Image",
        header=header(stamp, "camera"), height=height, width=width, encoding="rgb8",
        is_bigendian=0, step=3 * width, data=pixels.reshape(-1),
    )  # fmt: skip


def write_bag(folder, entries, namespace="/vjepa2", **metadata):
    """A bag of (topic, time of receipt, message)."""
    writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
    for key, value in metadata.items():
        writer.set_custom_data(key, value)
    with writer:
        connections = {}
        for topic, received, content in entries:
            name = topic if topic.startswith("/") else f"{namespace}/{topic}"
            kind = content.__msgtype__
            if name not in connections:
                connections[name] = writer.add_connection(name, kind, typestore=STORE)
            data = STORE.serialize_cdr(content, kind)
            writer.write(connections[name], round(received * 1e9), data)
    return folder
