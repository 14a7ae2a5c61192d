# SPDX-License-Identifier: Apache-2.0
"""Play a recorded run in real time for RViz and other viewers.

    ros2 launch vjepa2_ros replay.launch.py bag:=runs/demo-TIME/bag

Commands are not played, and it refuses to start where a robot listens. To plan once more from a
bag use `vjepa2-ros replay`.
"""

from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription
from vjepa2_ros.share import share_directory
from vjepa2_ros.stack.playing import ARGUMENTS, plan_playback


def launch_playback(context):
    """Build the processes once the arguments have values; what is raised ends launch with 1."""
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    playback = plan_playback(given)
    processes = [
        Node(
            package="vjepa2_ros",
            executable="visualizer_node",
            name="visualizer_node",
            namespace=playback.namespace,
            parameters=[playback.parameters] if playback.parameters else [],
            output="screen",
        ),
        ExecuteProcess(
            cmd=list(playback.command),
            output="screen",
            on_exit=Shutdown(reason="the bag is over"),
        ),
    ]
    if playback.rviz:
        arguments = ["-d", str(share_directory() / "config" / "pick_place.rviz")]
        processes.append(
            Node(package="rviz2", executable="rviz2", name="rviz", arguments=arguments)
        )
    return processes


def generate_launch_description():
    """Entry point of `ros2 launch`."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, default, text in ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=launch_playback)])
