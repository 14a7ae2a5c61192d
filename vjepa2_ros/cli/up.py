# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros up`: the whole stack as processes, where there is no `ros2 launch`."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from vjepa2_ros.cli.arguments import namespace, seed
from vjepa2_ros.cli.configuration import add_configuration_arguments, shown
from vjepa2_ros.settings.stack import SIDES

if TYPE_CHECKING:
    from vjepa2_ros.stack.process_group import ProcessGroup


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("--seed", type=seed, help="scene of the simulation")
    parser.add_argument(
        "--camera",
        metavar="PATH",
        help="take images from a device, a video file or a folder instead of the simulation's "
        "camera, or from another driver (topic) on camera/image_raw; the robot is then the one of "
        "the parameter `robot`",
    )
    parser.add_argument(
        "--robot", metavar="NAME", help="robot to drive instead of the configured one: franka, or "
        "module:Class"
    )  # fmt: skip
    parser.add_argument(
        "--robot-ip", metavar="IP", help="address of a Franka arm's control unit, with --robot"
    )
    parser.add_argument(
        "--planner", metavar="NAME", help="search that plans, instead of the configured one"
    )
    parser.add_argument(
        "--side",
        choices=SIDES,
        default="all",
        help="all nodes, or those of one of two hosts: robot (simulator or camera, controller and "
        "lifecycle manager) or gpu (encoder, planner and visualizer)",
    )
    add_configuration_arguments(parser)
    parser.add_argument(
        "--namespace", type=namespace, default="/vjepa2", help="namespace of the nodes"
    )
    parser.add_argument(
        "--no-visualizer",
        action="store_true",
        help="without visualizer_node, which makes markers, images and transforms for viewers",
    )
    parser.add_argument(
        "--panel", action="store_true", help="a page in the browser, see `vjepa2-ros panel`"
    )
    parser.add_argument(
        "--clip",
        action="store_true",
        help="clip_node: embedding and labels of the camera's newest images",
    )
    parser.add_argument(
        "--record",
        metavar="FOLDER",
        help="record every topic into a bag; the folder must not exist yet",
    )
    parser.add_argument(
        "--show",
        action="store_true",
        help="print the effective value of every parameter and where it came from; start nothing",
    )


def launch_arguments(args: argparse.Namespace) -> dict[str, str]:
    """The same as arguments of the launch file, which both start by."""
    given = {
        "seed": args.seed,
        "camera": args.camera,
        "robot": args.robot,
        "robot_ip": args.robot_ip,
        "planner": args.planner,
        "side": args.side,
        "preset": args.preset,
        "checkpoint": args.checkpoint,
        "namespace": args.namespace,
        "visualizer": not args.no_visualizer,
        "panel": args.panel,
        "clip": args.clip,
        "record": args.record,
    }
    return {name: str(value) for name, value in given.items() if value is not None}


def run(args: argparse.Namespace) -> int:
    """Run until Ctrl-C, or until a process ends; returns the exit code."""
    from vjepa2_ros.ros.signals import stop_on_signal

    stop = stop_on_signal()
    from vjepa2_ros.settings.declaration import SettingsError
    from vjepa2_ros.stack.launching import plan_stack

    try:
        plan = plan_stack(launch_arguments(args), args.config)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    if args.show:
        print("\n".join(shown(plan.configuration)))
        return 0

    from vjepa2_ros.ros.compatibility import own_build
    from vjepa2_ros.stack.process_group import ProcessGroup, ProcessGroupError
    from vjepa2_ros.stack.reach import network_report, on_this_machine
    from vjepa2_ros.stack.start import start_panel, start_stack

    build, environment = own_build(), {}
    if plan.has_network:
        _say(network_report(build["rmw"]))
    else:
        environment = on_this_machine(build["rmw"], build["ros_distro"])
    try:
        with ProcessGroup(environment=environment, hurry=lambda: stop.is_urgent) as group:
            start_stack(
                group,
                plan.managed,
                plan.parameters,
                plan.namespace,
                stop,
                side=plan.side,
                watchers=plan.watchers,
            )
            if plan.panel:
                start_panel(group, plan.namespace)
            if plan.side == "gpu":
                _say("waiting for the lifecycle manager of the robot side")
            while not stop.wait(0.5):
                group.check()
                for process in group.gone():
                    code = process.popen.returncode
                    _say(f"{process.name} ended with {code}; the others go on without", sys.stderr)
    except ProcessGroupError as error:
        if stop.is_set():
            return _end(group)
        _say(str(error), sys.stderr)
        return 1
    return _end(group)


def _say(text: str, stream: TextIO | None = None) -> None:
    # The output may be what fails: a full disk, a closed terminal.
    with suppress(OSError):
        print(text, file=stream, flush=True)


def _end(group: ProcessGroup) -> int:
    """Exit code of a stack that was told to end."""
    if group.killed:
        print(f"did not end, and was killed: {', '.join(group.killed)}", file=sys.stderr)
    return 1 if group.killed else 0
