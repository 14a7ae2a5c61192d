# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros up`: the whole stack as processes, where there is no `ros2 launch`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("--seed", type=int, default=0, help="scene of the simulation")
    parser.add_argument(
        "--camera",
        metavar="PATH",
        help="take images from a device, a video file or a folder instead of the simulation's "
        "camera; the robot is then the one of controller_node's `backend`",
    )
    parser.add_argument("--checkpoint", help="model of encoder and planner (default: config/)")
    parser.add_argument(
        "--config", type=Path, help="folder with parameter files named like those of config/"
    )
    parser.add_argument("--namespace", default="/vjepa2", help="namespace of the nodes")


def run(args: argparse.Namespace) -> int:
    """Run until Ctrl-C, or until a process ends; returns the exit code."""
    from vjepa2_ros.nodes.process_group import ProcessGroup, ProcessGroupError
    from vjepa2_ros.nodes.signals import stop_on_signal
    from vjepa2_ros.nodes.stack import HARDWARE, SIMULATION, start_stack

    stop = stop_on_signal()
    nodes, parameters = SIMULATION, {"simulator_node": {"seed": args.seed}}
    if args.camera:
        nodes, parameters = HARDWARE, {"camera_node": camera_parameters(args.camera)}
    config = {}
    if args.config is not None:
        config = {path.stem: path for path in args.config.glob("*.yaml")}
    try:
        with ProcessGroup() as group:
            start_stack(
                group, nodes, parameters, args.checkpoint, config, args.namespace, stop=stop
            )
            while not stop.wait(0.5):
                group.check()
    except ProcessGroupError as error:
        print(error, file=sys.stderr)
        return 0 if stop.is_set() else 1
    return 0


def camera_parameters(path: str) -> dict[str, str]:
    """Parameters of camera_node for a device, a video file or a folder."""
    if Path(path).is_dir():
        return {"source": "folder", "path": path}
    if Path(path).is_file():
        return {"source": "video", "path": path}
    return {"source": "device", "path": path}
