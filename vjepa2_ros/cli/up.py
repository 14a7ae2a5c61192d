# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros up`: the whole stack as processes, where there is no `ros2 launch`."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from vjepa2_ros.cli.arguments import namespace, seed
from vjepa2_ros.cli.configuration import add_configuration_arguments, configuration, shown
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
        "camera; the robot is then the one of the parameter `robot`",
    )
    parser.add_argument(
        "--side",
        choices=SIDES,
        default="all",
        help="all nodes, or those of one of two hosts: robot (simulator or camera, controller and "
        "lifecycle manager) or gpu (encoder and planner)",
    )
    add_configuration_arguments(parser)
    parser.add_argument(
        "--namespace", type=namespace, default="/vjepa2", help="namespace of the nodes"
    )
    parser.add_argument(
        "--show",
        action="store_true",
        help="print the effective value of every parameter and where it came from; start nothing",
    )


def run(args: argparse.Namespace) -> int:
    """Run until Ctrl-C, or until a process ends; returns the exit code."""
    from vjepa2_ros.ros.signals import stop_on_signal

    stop = stop_on_signal()
    from vjepa2_ros.settings.declaration import SettingsError
    from vjepa2_ros.settings.stack import managed_nodes
    from vjepa2_ros.stack.launching import side_problem, stack_options

    if args.camera and args.seed is not None:
        print("--seed is of the simulation, --camera of a real robot: give one", file=sys.stderr)
        return 2
    if problem := side_problem(args.side, args.camera, args.seed is not None):
        print(problem, file=sys.stderr)
        return 2
    nodes = managed_nodes("hardware" if args.camera else "simulation")
    try:
        effective = configuration(
            args, stack_options(nodes, args.seed, args.camera), args.namespace
        )
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    if args.show:
        print("\n".join(shown(effective)))
        return 0

    from vjepa2_ros.ros.compatibility import own_build
    from vjepa2_ros.stack.process_group import ProcessGroup, ProcessGroupError
    from vjepa2_ros.stack.reach import network_report, on_this_machine
    from vjepa2_ros.stack.start import start_stack

    build, environment = own_build(), {}
    if args.camera or args.side != "all":
        _say(network_report(build["rmw"]))
    else:
        environment = on_this_machine(build["rmw"], build["ros_distro"])
    try:
        with ProcessGroup(environment=environment, hurry=lambda: stop.is_urgent) as group:
            start_stack(group, nodes, effective.all_changes(), args.namespace, stop, side=args.side)
            if args.side == "gpu":
                _say("waiting for the lifecycle manager of the robot side")
            while not stop.wait(0.5):
                group.check()
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
