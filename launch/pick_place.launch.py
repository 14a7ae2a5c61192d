# SPDX-License-Identifier: Apache-2.0
"""The whole stack with a stock `ros2 launch`: in simulation, or with a camera and a robot.

    ros2 launch vjepa2_ros pick_place.launch.py
    ros2 launch vjepa2_ros pick_place.launch.py simulation:=false camera:=/dev/video0
    ros2 launch vjepa2_ros pick_place.launch.py checkpoint:=/models/vjepa2-ac-vitg.pt

Each node is a process of its own with its file under config/; lifecycle_manager brings them up in
order, and everything ends with it. Goal images: `ros2 run vjepa2_ros vjepa2-ros goal IMAGE`.
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription
from vjepa2_ros.cli.up import camera_parameters
from vjepa2_ros.stack.start import HARDWARE, SIMULATION
from vjepa2_ros.share import share_directory

ARGUMENTS = (
    ("simulation", "true", "simulated robot and camera (true), or the ones of the config files"),
    ("camera", "", "without simulation: device, video file or folder instead of the config file's"),
    ("checkpoint", "", "model of encoder and planner instead of the config files'"),
    ("params_file", "", "one more parameter file for all nodes, on top of config/*.yaml"),
    ("seed", "", "scene of the simulation instead of the config file's"),
    ("namespace", "vjepa2", "namespace of all nodes"),
    ("log_level", "info", "debug, info, warn or error"),
)


def launch_nodes(context):
    """Build the nodes once the arguments have values."""
    value = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    simulation = value["simulation"].lower() in ("true", "1", "yes")
    names = SIMULATION if simulation else HARDWARE
    changes = {name: {} for name in (*names, "lifecycle_manager")}
    changes["lifecycle_manager"]["nodes"] = list(names)
    if simulation and value["seed"]:
        changes["simulator_node"]["seed"] = int(value["seed"])
    if not simulation and value["camera"]:
        changes["camera_node"].update(camera_parameters(value["camera"]))
    if value["checkpoint"]:
        for name in ("encoder_node", "planner_node"):
            changes[name]["checkpoint"] = value["checkpoint"]

    def node(name):
        files = [str(Path(share_directory()) / "config" / f"{name}.yaml")]
        files += [value["params_file"]] if value["params_file"] else []
        return Node(
            package="vjepa2_ros",
            executable=name,
            name=name,
            namespace=value["namespace"],
            parameters=[*files, *([changes[name]] if changes[name] else [])],
            arguments=["--ros-args", "--log-level", value["log_level"]],
            output="screen",
            emulate_tty=True,
            # The runner ends when a node is lost, and a node alone must not stay behind.
            on_exit=Shutdown(reason=f"{name} ended"),
        )

    return [node(name) for name in (*names, "lifecycle_manager")]


def generate_launch_description():
    """Entry point of `ros2 launch`."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, default, text in ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=launch_nodes)])
