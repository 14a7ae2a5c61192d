# SPDX-License-Identifier: Apache-2.0
"""Plays a bag for viewers, where no robot listens: what the launch file starts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import rclpy
from rclpy.context import Context

from vjepa2_ros.recording.reading import BagError, namespace_of_bag
from vjepa2_ros.ros.context import init
from vjepa2_ros.settings.declaration import SettingsError
from vjepa2_ros.settings.simulator import CAMERA_POSE
from vjepa2_ros.settings.stack import CONTROLLER

ARGUMENTS: tuple[tuple[str, str, str], ...] = (
    ("bag", "", "folder of the bag"),
    ("rate", "1.0", "speed of the playback"),
    ("rviz", "true", "RViz with the shipped configuration"),
)
"""Name, default and description of each argument."""
PLAYED = (
    "camera/image_raw",
    "camera/image_raw/compressed",
    "camera/camera_info",
    "latent",
    "robot_state",
    "joint_states",
    "external_wrench",
    "goal",
    "goal_image/compressed",
    "plan",
    "status",
    "simulator/truth",
)
"""Topics that are played. A bag may hold commands of other drivers; what is shown is made anew."""

# In the name of a node of which only a subscription has been discovered.
_UNKNOWN = "_UNKNOWN_"


@dataclass(frozen=True)
class Playback:
    """What is started.

    Attributes:
        command: of `ros2 bag play`.
        namespace: of the recorded stack.
        parameters: of the visualizer.
        rviz: whether RViz is started.
    """

    command: tuple[str, ...]
    namespace: str
    parameters: dict[str, object]
    rviz: bool


def plan_playback(arguments: Mapping[str, str], listening: float = 3.0) -> Playback:
    """What launch arguments ask for.

    Args:
        arguments: texts by the names of `ARGUMENTS`.
        listening: how long a robot is looked for [s].

    Raises:
        SettingsError: the bag or a number cannot be used, or a robot listens.
    """
    bag = Path(arguments["bag"]).expanduser()
    if not arguments["bag"]:
        raise SettingsError("bag:= is missing: name the folder of a bag")
    try:
        namespace, simulated = namespace_of_bag(bag)
        rate = float(arguments["rate"])
    except (BagError, ValueError) as error:
        raise SettingsError(str(error)) from error
    if not 0.01 <= rate <= 100.0:
        raise SettingsError(f"rate:={arguments['rate']} is not from 0.01 to 100")
    if robot := robot_that_listens(namespace, listening):
        raise SettingsError(
            f"{robot} listens: a bag is played only where no robot could follow it. Bring the "
            "stack down, or set another ROS_DOMAIN_ID"
        )
    topics = [f"{namespace}/{topic}" for topic in PLAYED]
    command = ("ros2", "bag", "play", str(bag), "--rate", f"{rate:g}", "--topics", *topics)
    parameters: dict[str, object] = {"camera_pose": list(CAMERA_POSE)} if simulated else {}
    rviz = arguments["rviz"].strip().lower() in ("true", "1", "yes", "on")
    return Playback(command, namespace, parameters, rviz)


def robot_that_listens(namespace: str, listening: float) -> str:
    """Name of a controller in this domain, or of another subscriber to commands; empty for none.

    Args:
        namespace: whose commands the bag holds.
        listening: how long is looked [s]; discovery takes a second or two.
    """
    context = Context()
    init(context=context)
    try:
        node = rclpy.create_node("playback", namespace=namespace, context=context)
        end, unnamed = time.monotonic() + listening, ""
        while time.monotonic() < end:
            for name, where in node.get_node_names_and_namespaces():
                if name == CONTROLLER:
                    return f"{where.rstrip('/')}/{name}"
            for info in node.get_subscriptions_info_by_topic(f"{namespace}/command"):
                if _UNKNOWN not in info.node_name:
                    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"
                # Its name comes a moment later.
                unnamed = f"another program on {namespace}/command"
            time.sleep(0.1)
        return unnamed
    finally:
        context.try_shutdown()
