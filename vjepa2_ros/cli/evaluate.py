# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros evaluate`: closed-loop trials in the simulation, with the settings of the nodes."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from argparse import ArgumentTypeError
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING

from vjepa2_ros.cli.arguments import non_negative_number, positive_integer, seed
from vjepa2_ros.cli.configuration import add_configuration_arguments, configuration
from vjepa2_ros.cli.tables import wide_console
from vjepa2_ros.evaluation import MOST_SHARDS
from vjepa2_ros.policies import POLICIES
from vjepa2_ros.tasks import task_names

if TYPE_CHECKING:
    from vjepa2_ros.evaluation.run import Evaluation
    from vjepa2_ros.evaluation.trial import Trial

_DEFAULT_TASK = "pick_and_place"
_DEFAULT_OBJECT = "box"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "--task",
        metavar="NAME",
        help=f"{', '.join(task_names())}, or module:ATTRIBUTE (default: {_DEFAULT_TASK})",
    )
    parser.add_argument(
        "--object", metavar="NAME", help="cup or box (default: the box, for tasks with objects)"
    )
    parser.add_argument(
        "--all", action="store_true", help="every task with each of its objects: the paper's table"
    )
    parser.add_argument("--episodes", type=positive_integer, default=50, help="number of trials")
    parser.add_argument(
        "--seed", type=seed, default=1, help="of the trials, which training never saw"
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
    parser.add_argument(
        "--policy", choices=POLICIES, default="planner", help="what decides on the steps"
    )
    parser.add_argument(
        "--baselines",
        type=Path,
        metavar="FILE",
        help="fitted policies (default: baselines.safetensors beside the model)",
    )
    parser.add_argument(
        "--steps",
        type=positive_integer,
        help="most steps on one picture (default: what the task gives each)",
    )
    parser.add_argument(
        "--box-yaw",
        type=non_negative_number,
        default=0.0,
        metavar="DEGREES",
        help="the box is turned by at most this angle either way",
    )
    parser.add_argument(
        "--shard",
        type=shard,
        default=(1, 1),
        metavar="I/N",
        help="play only every Nth trial, from the Ith on; merge the N reports with --merge",
    )
    parser.add_argument(
        "--merge",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="play nothing: table and report of the whole from the reports of all shards",
    )
    parser.add_argument(
        "--processes",
        type=positive_integer,
        default=len(os.sched_getaffinity(0)),
        help="that play at once, on one thread each (default: one for each core)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="table, figures and images (default: runs/…)"
    )
    add_configuration_arguments(parser)
    parser.add_argument(
        "--planner",
        "--controller",
        dest="config",
        action="append",
        type=Path,
        metavar="FILE",
        help="parameter file, as --config",
    )


def shard(text: str) -> tuple[int, int]:
    """Number and count of "I/N"; ArgumentTypeError for anything else."""
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts) <= MOST_SHARDS):
        raise ArgumentTypeError(f"{text!r} is not I/N with I from 1 to N")
    return int(part), int(parts)


def run(arguments: argparse.Namespace) -> int:
    """Play the trials, or merge reports; write the files and print the table.

    Returns:
        0 if all were played; 1 if a file cannot be written, or a trial cannot be played; 2 if
        something given cannot be used.
    """
    from vjepa2_ros.evaluation import summary, writable

    cells: list[dict] = []
    try:
        if arguments.merge:
            if arguments.all or arguments.task or arguments.object or arguments.shard != (1, 1):
                raise ValueError(
                    "--merge plays nothing: leave out --task, --object, --all and --shard"
                )
            cells = summary.merge(arguments.merge)
        else:
            evaluations = chosen_evaluations(arguments)
    except (OSError, ValueError) as error:
        return _fail(str(error), 2)
    name = "merge" if arguments.merge else "all" if arguments.all else evaluations[0].task
    name = name.replace(":", "-")
    folder = arguments.output or Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        writable.check_folder(folder)
        if arguments.json is not None:
            writable.check_file(arguments.json)
        if arguments.merge:
            _write(cells, (1, 1), folder, arguments.json)
        else:
            trials = _play(evaluations, arguments.shard, arguments.processes)
            cells = [
                summary.summary(
                    summary.conditions(evaluation), [summary.row(trial) for trial in cell]
                )
                for evaluation, cell in zip(evaluations, trials, strict=True)
            ]
            # Before the figures: a disk that is full of them must not cost the results.
            _write(cells, arguments.shard, folder, arguments.json)
            _draw(evaluations, trials, folder)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return _fail(f"{error.strerror or error}{where}", 1)
    except ValueError as error:  # pictures, model and settings do not fit each other
        return _fail(str(error), 1)
    except BrokenProcessPool:
        return _fail("a process that plays was killed: free memory, or lower --processes", 1)
    _show(cells, folder, "table and report" if arguments.merge else "table, report and images")
    return 0


def chosen_evaluations(arguments: argparse.Namespace) -> list[Evaluation]:
    """The cells that the arguments ask for.

    Raises:
        OSError: a file cannot be read.
        ValueError: arguments, settings and model do not fit each other.
    """
    from vjepa2_ros.evaluation.run import Evaluation, check
    from vjepa2_ros.tasks import load_task
    from vjepa2_ros.tasks.task import TaskOptions

    if arguments.all and (arguments.task or arguments.object):
        raise ValueError("--all evaluates every task and object: leave out --task and --object")
    settings = configuration(arguments).settings
    if not settings.planner.action.gripper.is_searched:
        # Where no picture says what the gripper does, the planner decides.
        searched = {"planner_node": {"gripper.mode": "enumerated"}}
        settings = configuration(arguments, searched).settings
    if arguments.box_yaw > 180.0:
        raise ValueError(f"--box-yaw may be 0 to 180 degrees, not {arguments.box_yaw:g}")
    cells: list[tuple[str, str | None]] = []
    for name in task_names() if arguments.all else (arguments.task or _DEFAULT_TASK,):
        objects: tuple[str | None, ...] = load_task(name).objects or (None,)
        if not arguments.all and arguments.object is not None:
            objects = (arguments.object,)
        elif not arguments.all and objects != (None,):
            objects = (_DEFAULT_OBJECT if _DEFAULT_OBJECT in objects else objects[0],)
        cells += [(name, thing) for thing in objects]
    evaluations = [
        Evaluation(
            name,
            TaskOptions(
                thing, arguments.pictures, arguments.gripper, settings.simulator.image_size
            ),
            arguments.policy,
            arguments.episodes,
            arguments.seed,
            math.radians(arguments.box_yaw),
            settings,
            arguments.steps,
            arguments.baselines,
        )
        for name, thing in cells
    ]
    if arguments.shard[1] > arguments.episodes:
        raise ValueError(
            f"{arguments.episodes} episodes cannot be played in {arguments.shard[1]} shards"
        )
    return check(evaluations)


def _play(
    evaluations: list[Evaluation], shard: tuple[int, int], processes: int
) -> list[list[Trial]]:
    """The trials of each evaluation, in the order of their scenes."""
    from tqdm import tqdm

    from vjepa2_ros.evaluation.run import run as play

    trials: list[list[Trial]] = [[] for _ in evaluations]
    total = sum(len(evaluation.scenes(shard)) for evaluation in evaluations)
    with tqdm(total=total, desc="evaluate", unit="episode") as bar:
        succeeded = 0
        for number, trial in play(evaluations, shard, processes):
            trials[number].append(trial)
            succeeded += trial.success
            bar.update()
            bar.set_postfix_str(f"{succeeded} succeeded")
    for cell in trials:
        cell.sort(key=lambda trial: trial.seed)
    return trials


def _draw(evaluations: list[Evaluation], trials: list[list[Trial]], folder: Path) -> None:
    from vjepa2_ros.evaluation import figures

    for evaluation, cell in zip(evaluations, trials, strict=True):
        parts = (evaluation.task.replace(":", "-"), evaluation.options.object)
        name = "_".join(part for part in parts if part)
        figures.draw_energies(cell, folder / f"{name}_energies.png")
        figures.draw_failures(cell, folder / f"{name}_failures.png")


def _write(
    cells: list[dict], shard: tuple[int, int], folder: Path, json_path: Path | None
) -> None:
    from vjepa2_ros import plain_json
    from vjepa2_ros.evaluation import summary, table

    report = plain_json.dumps(summary.report(cells, shard))
    if json_path is not None:
        json_path.parent.mkdir(exist_ok=True)
        json_path.write_text(report)
    (folder / "report.json").write_text(report)
    (folder / "table.md").write_text(table.markdown(cells))


def _show(cells: list[dict], folder: Path, files: str) -> None:
    from vjepa2_ros.evaluation import table

    console = wide_console()
    console.print(table.terminal(cells))
    console.print(f"{files} in {folder}", markup=False)


def _fail(text: str, code: int) -> int:
    print(f"cannot evaluate: {text}", file=sys.stderr)
    return code
