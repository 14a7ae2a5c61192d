# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros up`: the whole stack as processes, where there is no `ros2 launch`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vjepa2_ros.cli.arguments import seed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "--seed", type=seed, help="scene of the simulation (default: the parameter file's)"
    )
    parser.add_argument(
        "--camera",
        metavar="PATH",
        help="take images from a device, a video file or a folder instead of the simulation's "
        "camera; the robot is then the one of controller_node's `backend`",
    )
    parser.add_argument("--checkpoint", help="model of encoder and planner (default: config/)")
    parser.add_argument(
        "--config",
        type=Path,
        metavar="DIR",
        help="folder with parameter files named like those of config/",
    )
    parser.add_argument("--namespace", default="/vjepa2", help="namespace of the nodes")


def run(args: argparse.Namespace) -> int:
    """Run until Ctrl-C, or until a process ends; returns the exit code."""
    from vjepa2_ros.stack.process_group import ProcessGroup, ProcessGroupError
    from vjepa2_ros.ros.signals import stop_on_signal
    from vjepa2_ros.stack.start import start_stack

    try:
        config = {} if args.config is None else parameter_files(args.config)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    nodes, parameters = nodes_and_changes(args)
    stop = stop_on_signal()
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


def nodes_and_changes(args: argparse.Namespace) -> tuple[tuple[str, ...], dict[str, dict]]:
    """The nodes to start, and what the arguments change in their parameter files, by node."""
    from vjepa2_ros.stack.start import HARDWARE, SIMULATION

    if args.camera:
        return HARDWARE, {"camera_node": camera_parameters(args.camera)}
    return SIMULATION, {} if args.seed is None else {"simulator_node": {"seed": args.seed}}


def parameter_files(folder: Path) -> dict[str, Path]:
    """The parameter files of a folder, by the node that each is named after.

    Raises ValueError where there is no such folder or file, or one is named after no node.
    """
    from vjepa2_ros.stack.start import PROCESSES

    if not folder.is_dir():
        raise ValueError(f"--config {folder}: there is no such folder")
    files = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    known = ", ".join(f"{name}.yaml" for name in PROCESSES)
    unknown = [path.name for name, path in files.items() if name not in PROCESSES]
    if unknown:
        raise ValueError(f"--config {folder}: no node reads {', '.join(unknown)}; known: {known}")
    if not files:
        raise ValueError(f"--config {folder}: the folder holds none of {known}")
    return files


def camera_parameters(path: str) -> dict[str, str]:
    """Parameters of camera_node for a device, a video file or a folder."""
    if Path(path).is_dir():
        return {"source": "folder", "path": path}
    if Path(path).is_file():
        return {"source": "video", "path": path}
    return {"source": "device", "path": path}
