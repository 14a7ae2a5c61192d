# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros demo`: a goal image in, a simulated robot that moves there, and a record of it."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vjepa2_ros.cli.arguments import positive_integer, positive_number, seed
from vjepa2_ros.cli.configuration import add_configuration_arguments, configuration

if TYPE_CHECKING:
    from vjepa2_ros.settings.files import Configuration

LARGEST_DOMAIN = 232
"""Beyond it there are no ports left for DDS."""
OVERLAP_STEPS = 60
"""Plans made in motion follow each other several times as fast as steps that are waited for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("--seed", type=seed, default=1, help="scene, start pose and goal")
    parser.add_argument(
        "--steps", type=positive_integer, help="most steps (default: the planner's)"
    )
    add_configuration_arguments(parser)
    parser.add_argument(
        "--overlap", action="store_true", help="plan on while the robot moves, without stops"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: runs/demo-TIME")
    parser.add_argument(
        "--timeout", type=positive_number, default=300.0, help="longest time for the goal [s]"
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo; 0 if the robot came to rest within 4 cm of the true goal, else 1."""
    folder = args.output or Path("runs") / f"demo-{time.strftime('%Y%m%d-%H%M%S')}"
    if folder.exists():
        print(f"{folder} exists already: give another --output", file=sys.stderr)
        return 1
    try:
        effective = demo_configuration(args, args.seed, args.overlap)
        domain = isolate()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2

    from rich.console import Console

    console = Console()
    # Before the folder is made: an output that is full leaves nothing behind.
    console.print(f"seed {args.seed}; to watch along: export ROS_DOMAIN_ID={domain}")
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        print(f"cannot write to {folder}: {error.strerror}; give another --output", file=sys.stderr)
        return 1

    from vjepa2_ros.demo.run import DemoError, DemoSettings, run_demo
    from vjepa2_ros.ros.context import RosError
    from vjepa2_ros.ros.signals import stop_on_signal
    from vjepa2_ros.stack.client import ClientError
    from vjepa2_ros.stack.process_group import ProcessGroupError

    stop = stop_on_signal()
    settings = DemoSettings(effective, folder, args.steps, args.timeout)
    console.print(f"seed {args.seed}; to observe: export ROS_DOMAIN_ID={domain}")
    try:
        figures = run_demo(settings, console, stop)
    except (DemoError, RosError, ClientError, ProcessGroupError, OSError) as error:
        console.print(f"partial results: {folder}", markup=False)
        if stop.is_set():
            raise KeyboardInterrupt from None
        console.print(f"the demo failed: {error}", style="bold red", markup=False)
        return 1
    reached = figures["reached"]
    console.print(
        f"{'reached' if reached else 'NOT reached'}: from "
        f"{figures['start_distance_m'] * 100:.1f} cm to {figures['final_distance_m'] * 100:.1f} cm "
        f"in {figures['steps']} steps and {figures['seconds']:.0f} s ({figures['end'].lower()})",
        style="bold green" if reached else "bold red",
    )
    console.print(f"animation, curves, latencies and bag: {folder}", markup=False)
    return 0 if reached else 1


def demo_configuration(args: argparse.Namespace, seed: int, overlap: bool) -> Configuration:
    """Settings of one demo; SettingsError where a file or an option cannot be used.

    Args:
        seed: scene, start pose and goal.
        overlap: plan on while the robot moves; a plan then counts as a step several times as often.
    """
    planner = {"overlap": True, "steps_per_subgoal": OVERLAP_STEPS} if overlap else {}
    return configuration(args, {"simulator_node": {"seed": seed}, "planner_node": planner})


def isolate() -> str:
    """Take a ROS domain of its own where none is set, so that no other stack gets commands.

    Call it before ROS is imported.

    Returns:
        The number of the domain.

    Raises:
        ValueError: the one that is set is none.
    """
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    domain = os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    if domain and not (domain.isdecimal() and int(domain) <= LARGEST_DOMAIN):
        raise ValueError(
            f"ROS_DOMAIN_ID is {domain!r}, but must be a whole number from 0 to {LARGEST_DOMAIN}"
        )
    return domain
