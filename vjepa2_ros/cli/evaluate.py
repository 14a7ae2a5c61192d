# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros evaluate`: closed-loop trials in the simulation, with the settings of the nodes."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from vjepa2_ros.cli.arguments import positive_integer, seed
from vjepa2_ros.cli.configuration import add_configuration_arguments, configuration
from vjepa2_ros.evaluation.tasks import TASKS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "--task",
        choices=tuple(TASKS),
        default="reach",
        help="; ".join(f"{name}: {task.description}" for name, task in TASKS.items()),
    )
    parser.add_argument("--episodes", type=positive_integer, default=50, help="number of trials")
    parser.add_argument(
        "--seed", type=seed, default=1, help="of the trials, which training never saw"
    )
    parser.add_argument(
        "--steps",
        type=positive_integer,
        help="most steps in an episode (default: the setting steps_per_subgoal)",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the figures and curves here as well"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="figures and images (default: runs/TASK-TIME)"
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
    parser.add_argument(
        "--threads", type=positive_integer, help="threads of PyTorch, in place of the configured"
    )


def run(arguments: argparse.Namespace) -> int:
    """Play the episodes, write the files and print the table.

    Returns:
        0 if all were played; 1 if the model cannot play them, or a file cannot be written; 2 if
        something given cannot be used.
    """
    from rich.console import Console
    from rich.markup import escape
    from tqdm import tqdm

    from vjepa2_ros.evaluation import report, writable
    from vjepa2_ros.evaluation.simulated_stack import encode_as_sent
    from vjepa2_ros.planning.planners import make_planner
    from vjepa2_ros.planning.receding_horizon import make_loop
    from vjepa2_ros.world_model.checkpoint import open_world_model

    console = Console()
    try:
        settings = configuration(
            arguments,
            {
                "planner_node": {
                    "steps_per_subgoal": arguments.steps,
                    "threads": arguments.threads,
                }
            },
        ).settings
        task = TASKS[arguments.task].load()
        seeds = task.scene_seeds(arguments.seed, arguments.episodes)
        planner = make_planner(settings.planner.search)
        model = open_world_model(settings.planner.model)
    except (OSError, ValueError) as error:
        console.print(f"[bold red]cannot evaluate:[/] {escape(str(error))}", soft_wrap=True)
        return 2

    def loop_for(goal_image):
        goal = encode_as_sent(model, goal_image, settings.encoder)
        return make_loop(settings.planner, planner, model, goal[None])

    folder = arguments.output or Path("runs") / f"{arguments.task}-{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        writable.check_folder(folder)
        if arguments.json is not None:
            writable.check_file(arguments.json)
        episodes = task.run_episodes(seeds, loop_for, settings)
        results = list(tqdm(episodes, total=len(seeds), desc=arguments.task, unit="episode"))
        figures = report.summary(results, arguments.seed, settings, arguments.task)
        # Before anything is printed, which may fail.
        report.write(results, figures, folder, arguments.json)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return _fail(f"{error.strerror or error}{where}")
    except ValueError as error:  # goals, model and settings do not fit each other
        return _fail(str(error))
    console.print(report.table(figures))
    console.print(f"curves and images in {folder}", markup=False)
    return 0


def _fail(text: str) -> int:
    print(f"cannot evaluate: {text}", file=sys.stderr)
    return 1
