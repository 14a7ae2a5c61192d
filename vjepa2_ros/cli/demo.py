# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros demo`: a task on the simulated robot from pictures, and a record of it."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vjepa2_ros.cli.arguments import positive_integer, positive_number, seed
from vjepa2_ros.cli.configuration import add_configuration_arguments, configuration
from vjepa2_ros.stack.reach import on_this_machine
from vjepa2_ros.tasks import load_task, task_names

if TYPE_CHECKING:
    from vjepa2_ros.settings.files import Configuration
    from vjepa2_ros.tasks.task import Task, TaskOptions

LARGEST_DOMAIN = 232
"""Beyond it there are no ports left for DDS."""
OVERLAP_STEPS = 60
"""Plans made in motion follow each other several times as fast as steps that are waited for."""
DEFAULT_TASK, DEFAULT_OBJECT = "pick_and_place", "box"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "--task",
        default=DEFAULT_TASK,
        metavar="NAME",
        help=f"what the robot has to do: {', '.join(task_names())}, or module:ATTRIBUTE",
    )
    parser.add_argument(
        "--object", metavar="NAME", help="cup or box (default: the box, for tasks with objects)"
    )
    parser.add_argument(
        "--pictures",
        type=int,
        choices=(5, 3),
        default=5,
        help="5: as a user teaches them; 3: grasped, near the target, placed, as in the paper",
    )
    parser.add_argument(
        "--gripper",
        choices=("scripted", "planned"),
        default="scripted",
        help="whether the goal says what the gripper does, or the planner decides",
    )
    parser.add_argument("--seed", type=seed, default=1, help="scene, start and pictures")
    parser.add_argument(
        "--steps",
        type=positive_integer,
        help="most steps on one picture (default: what the task gives each)",
    )
    add_configuration_arguments(parser)
    parser.add_argument(
        "--overlap",
        action="store_true",
        help="plan on while the robot moves, without stops; for tasks without an object",
    )
    parser.add_argument(
        "--episodes",
        type=positive_integer,
        default=1,
        metavar="N",
        help="one demo for each of N seeds from --seed on, and how many succeed",
    )
    parser.add_argument(
        "--panel", action="store_true", help="show it in the browser, see `vjepa2-ros panel`"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: runs/demo-TIME")
    parser.add_argument(
        "--timeout", type=positive_number, default=600.0, help="longest time for the goal [s]"
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo; 0 if the task succeeded by the simulation's truth, else 1."""
    folder = args.output or Path("runs") / f"demo-{time.strftime('%Y%m%d-%H%M%S')}"
    if folder.exists():
        print(f"{folder} exists already: give another --output", file=sys.stderr)
        return 1
    if args.episodes > 1:
        return _series(args, folder)
    outcome = _one(args, args.seed, folder)
    if isinstance(outcome, int):
        return outcome
    return 0 if outcome["success"] else 1


def _series(args: argparse.Namespace, folder: Path) -> int:
    """Run one demo for each seed; 0 if all could be run, whether they succeeded or not."""
    from vjepa2_ros import plain_json
    from vjepa2_ros.evaluation.summary import interval

    seeds = range(args.seed, args.seed + args.episodes)
    rows = []
    failed = 0
    for number in seeds:
        outcome = _one(args, number, folder / f"seed-{number}")
        if outcome == 1:
            # It could not be run: that is no episode.
            failed += 1
            outcome = _one(args, number, folder / f"seed-{number}-again")
        if isinstance(outcome, int):
            return outcome
        rows.append({"seed": number, **outcome})
        plain_json.write(rows, folder / "episodes.json")
    succeeded = sum(row["success"] for row in rows)
    low, high = interval(succeeded, len(rows))
    distances = sorted(row["final_distance_m"] for row in rows)
    print(
        f"{succeeded} of {len(rows)} succeeded ({low * 100:.0f} to {high * 100:.0f} %); distance "
        f"median {distances[len(rows) // 2] * 100:.1f} cm, worst {distances[-1] * 100:.1f} cm: "
        f"{folder / 'episodes.json'}"
    )
    if failed:
        print(f"{failed} demos could not be run and were begun again")
    return 0


def _one(args: argparse.Namespace, seed: int, folder: Path) -> dict | int:
    """Run one demo and tell its outcome; the exit code if it could not be run."""
    try:
        domain = isolate()
        task = load_task(args.task)
        chosen = args.object if args.object is not None else default_object(task)
        effective = demo_configuration(args, seed, args.task, chosen, args.overlap)
        options = task_options(args, task, chosen, effective)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2

    from rich.console import Console

    console = Console()
    # Before the folder is made: an output that is full leaves nothing behind.
    console.print(f"{args.task}: {task.description}", markup=False)
    console.print(f"seed {seed}; to observe: export ROS_DOMAIN_ID={domain}")
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        print(f"cannot write to {folder}: {error.strerror}; give another --output", file=sys.stderr)
        return 1

    from vjepa2_ros.demo.report import verdict
    from vjepa2_ros.demo.run import DemoError, DemoSettings, run_demo
    from vjepa2_ros.ros.context import RosError
    from vjepa2_ros.ros.signals import stop_on_signal
    from vjepa2_ros.stack.client import ClientError
    from vjepa2_ros.stack.process_group import ProcessGroupError

    stop = stop_on_signal()
    settings = DemoSettings(effective, options, folder, args.steps, args.timeout, args.panel)
    try:
        figures = run_demo(settings, console, stop)
    except (DemoError, RosError, ClientError, ProcessGroupError, OSError) as error:
        if any(folder.iterdir()):
            console.print(f"partial results: {folder}", markup=False)
        if stop.is_set():
            raise KeyboardInterrupt from None
        console.print(f"the demo failed: {error}", style="bold red", markup=False)
        return 1
    console.print(
        verdict(figures),
        style="bold green" if figures["success"] else "bold red",
        markup=False,
        soft_wrap=True,
    )
    console.print(f"animation, curves, latencies and bag: {folder}", markup=False)
    return figures


def default_object(task: Task) -> str | None:
    """The object that a task is done with where none is named; None for a task without objects."""
    if not task.objects:
        return None
    return DEFAULT_OBJECT if DEFAULT_OBJECT in task.objects else task.objects[0]


def task_options(
    args: argparse.Namespace, task: Task, chosen: str | None, effective: Configuration
) -> TaskOptions:
    """How the task is set.

    Args:
        args: say pictures and gripper.
        task: that they have to fit.
        chosen: name of the object, None without.
        effective: settings of the stack.

    Raises:
        ValueError: object, pictures, gripper or overlap do not fit the task.
    """
    from vjepa2_ros.tasks.task import TaskOptions, check_options

    size = effective.settings.simulator.image_size
    options = TaskOptions(chosen, args.pictures, args.gripper, size)
    check_options(task, options)
    if task.objects and effective.settings.planner.execution.overlap:
        raise ValueError(
            "with plans made in motion (overlap) the pictures of a task with an object follow each "
            "other too fast: use a task without one, such as --task reach"
        )
    return options


def demo_configuration(
    args: argparse.Namespace, seed: int, task: str, chosen: str | None, overlap: bool
) -> Configuration:
    """Settings of one demo; SettingsError where a file or an option cannot be used.

    Args:
        args: of a parser with `add_configuration_arguments`.
        seed: scene, start and pictures.
        task: name of the task, or module:ATTRIBUTE.
        chosen: name of the object, None without.
        overlap: plan on while the robot moves; a plan then counts as a step several times as often.
    """
    simulator = {"seed": seed, "task": task, "object": chosen or ""}
    planner = {"overlap": True, "steps_per_subgoal": OVERLAP_STEPS} if overlap else {}
    return configuration(args, {"simulator_node": simulator, "planner_node": planner})


def isolate() -> str:
    """Take a ROS domain of its own where none is set, so that no other stack gets commands.

    Call it before ROS is initialised.

    Returns:
        The number of the domain.

    Raises:
        ValueError: the one that is set is none.
    """
    from vjepa2_ros.ros.compatibility import own_build

    build = own_build()
    os.environ.update(on_this_machine(build["rmw"], build["ros_distro"]))
    domain = os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    if domain and not (domain.isdecimal() and int(domain) <= LARGEST_DOMAIN):
        raise ValueError(
            f"ROS_DOMAIN_ID is {domain!r}, but must be a whole number from 0 to {LARGEST_DOMAIN}"
        )
    return domain
