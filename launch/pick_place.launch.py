# SPDX-License-Identifier: Apache-2.0
"""The whole stack with a stock `ros2 launch`: in simulation, or with a camera and a robot.

    ros2 launch vjepa2_ros pick_place.launch.py
    ros2 launch vjepa2_ros pick_place.launch.py rviz:=true panel:=true
    ros2 launch vjepa2_ros pick_place.launch.py robot:=franka robot_ip:=172.16.0.2 \
        camera:=/dev/video0
    ros2 launch vjepa2_ros pick_place.launch.py simulation:=false side:=robot   # on one host,
    ros2 launch vjepa2_ros pick_place.launch.py simulation:=false side:=gpu     # on the other one
    ros2 launch vjepa2_ros pick_place.launch.py checkpoint:=/models/vjepa2-ac-vitg.pt

Each node is a process of its own; lifecycle_manager brings them up in order, and everything ends
with it. Goal images: `ros2 run vjepa2_ros vjepa2-ros goal IMAGE`.
"""

import signal

from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from rclpy.utilities import get_rmw_implementation_identifier

from launch import LaunchDescription
from vjepa2_ros.ros.deadlines import END_WITH_PARENT_OPTION, WIND_DOWN_OPTION
from vjepa2_ros.share import share_directory
from vjepa2_ros.stack.claim import claim
from vjepa2_ros.stack.launching import ARGUMENTS, plan_stack
from vjepa2_ros.stack.reach import network_report
from vjepa2_ros.stack.security import enclave_arguments

# Ends of a process that a shutdown may bring about: in order, or by a signal during its start.
_ORDERLY = (0, -signal.SIGINT, -signal.SIGTERM)
# Keeps the namespace until this process ends.
_claims = []


def launch_nodes(context):
    """Build the nodes once the arguments have values; what is raised ends launch with code 1."""
    given = {name: LaunchConfiguration(name).perform(context) for name, _, _ in ARGUMENTS}
    plan = plan_stack(given)
    if plan.has_network:
        print(network_report(get_rmw_implementation_identifier()), flush=True)
    _claims.append(claim(plan.namespace, side=plan.side))
    viewers = [
        *([_rviz(plan)] if plan.rviz else []),
        *([_panel(plan)] if plan.panel else []),
    ]
    return [*(_node(name, plan) for name in (*plan.nodes, *plan.watchers)), *viewers]


def _node(name, plan):
    def on_exit(event, context):
        if name in plan.watchers or (context.is_shutdown and event.returncode in _ORDERLY):
            return None
        if event.returncode == 0:
            return Shutdown(reason=f"{name} ended")
        # Only an exception gives launch an exit code other than 0. It shuts everything down, too.
        raise RuntimeError(f"{name} ended with exit code {event.returncode}")

    parameters = plan.parameters[name]
    return Node(
        package="vjepa2_ros",
        executable=name,
        name=name,
        namespace=plan.namespace,
        parameters=[parameters] if parameters else [],
        arguments=[
            *_wind_down(name, plan),
            *("--ros-args", "--log-level", plan.log_level),
            *enclave_arguments(name, plan.namespace),
        ],
        output="screen",
        emulate_tty=True,
        sigterm_timeout=str(plan.deadlines.terminate),
        sigkill_timeout=str(plan.deadlines.kill),
        on_exit=on_exit,
    )


def _rviz(plan):
    # The configuration names topics of the default namespace.
    configuration = str(share_directory() / "config" / "pick_place.rviz")
    return Node(package="rviz2", executable="rviz2", name="rviz", arguments=["-d", configuration])


def _panel(plan):
    arguments = ["panel", "--namespace", plan.namespace, END_WITH_PARENT_OPTION]
    return Node(
        package="vjepa2_ros", executable="vjepa2-ros", arguments=arguments, output="screen"
    )


def _wind_down(name, plan):
    # A watcher does not wait for the lifecycle manager, which does not know it.
    watches = name in plan.watchers
    if watches:
        return (END_WITH_PARENT_OPTION,)
    return (WIND_DOWN_OPTION, str(plan.deadlines.wind_down))


def generate_launch_description():
    """Entry point of `ros2 launch`."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, default, text in ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=launch_nodes)])
