# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros imagine`: what the world model imagines after actions, as pictures."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from vjepa2_ros.cli.arguments import positive_integer, seed
from vjepa2_ros.cli.configuration import add_configuration_arguments, configuration

_AXES = ("X", "Y", "Z", "YAW", "GRIPPER")
_STATE = ("X", "Y", "Z", "ROLL", "PITCH", "YAW", "CLOSEDNESS")
_PIXELS, _BYTES = 50_000_000, 100_000_000
_MOST = 100.0  # metres, radians


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "image",
        nargs="?",
        type=Path,
        metavar="IMAGE",
        help="picture of the camera (default: one of the simulated cell, see --scene)",
    )
    parser.add_argument(
        "--action",
        nargs=5,
        type=float,
        action="append",
        required=True,
        metavar=_AXES,
        help="change of x, y, z [m], yaw [rad] and gripper closedness in each step, such as "
        "0 0 -0.05 0 0 (5 cm down); may be repeated for several actions beside each other",
    )
    parser.add_argument(
        "--steps",
        type=positive_integer,
        default=3,
        help="how often each action is taken (default: 3)",
    )
    parser.add_argument(
        "--state",
        nargs=7,
        type=float,
        metavar=_STATE,
        help="with IMAGE: state of the robot in it, metres, radians and 0 (open) to 1 (closed) "
        "(default: the open hand pointing down in the middle of the workspace)",
    )
    parser.add_argument(
        "--scene",
        type=seed,
        default=0,
        help="without IMAGE: scene of the simulated cell, where what truly follows is shown too "
        "(default: 0)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="PNG to write (default: runs/imagine-….png)"
    )
    add_configuration_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Imagine, write the picture and print where it is.

    Returns:
        0; 2 if something given cannot be used.
    """
    import numpy as np
    import torch

    from vjepa2_ros.camera.decoding import decode_image
    from vjepa2_ros.diagnosis.imagination import draw, imagine
    from vjepa2_ros.evaluation.writable import check_folder
    from vjepa2_ros.simulation.simulator import DOWN, Simulator, SimulatorConfig
    from vjepa2_ros.world_model.checkpoint import open_world_model

    path = arguments.output or Path("runs") / f"imagine-{time.strftime('%Y%m%d-%H%M%S')}.png"
    try:
        _check_numbers(arguments)
        if path.suffix.lower() != ".png" or path.is_dir():
            raise ValueError(f"--output has to name a PNG file, not {path}")
        check_folder(path.parent)
        settings = configuration(arguments).settings
        model = open_world_model(settings.planner.model, parts=("decoder",))
        longest = model.predictor.config.max_frames
        if arguments.steps > longest:
            raise ValueError(f"the model imagines {longest} steps at most")
        workspace = settings.simulator.workspace
        cell = None
        if arguments.image is None:
            cell = Simulator(SimulatorConfig(workspace=workspace))
            cell.reset(arguments.scene)
            image, state = cell.render(settings.simulator.image_size), cell.state()
        else:
            image = decode_image(_read(arguments.image), _PIXELS)
            middle = np.mean([workspace.lower, workspace.upper], axis=0)
            state = np.array(arguments.state or [*middle, *DOWN.as_euler("xyz"), 0.0])
    except (OSError, ValueError) as error:
        print(str(error), file=sys.stderr)
        return 2
    actions = [tuple(action) for action in arguments.action]
    found = imagine(
        model, image, torch.from_numpy(state).float(), actions, arguments.steps, cell
    )
    draw(image, found, path)
    print(f"picture in {path}")
    return 0


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    if path.stat().st_size > _BYTES:
        raise ValueError(f"{path} is larger than {_BYTES / 1e6:.0f} MB")
    return path.read_bytes()


def _check_numbers(arguments: argparse.Namespace) -> None:
    numbers = [number for action in arguments.action for number in action]
    if not all(abs(number) <= _MOST for number in numbers + (arguments.state or [])):
        raise ValueError(f"actions and state must be numbers of at most {_MOST:.0f}")
    if arguments.state is not None and not 0.0 <= arguments.state[6] <= 1.0:
        raise ValueError("the closedness in --state must be from 0 to 1")
    if arguments.image is None and arguments.state is not None:
        raise ValueError("--state cannot be used without IMAGE: the simulated cell has its own")
