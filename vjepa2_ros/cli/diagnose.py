# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros diagnose`: why a task fails, with representation, predictor and search apart."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from vjepa2_ros.cli.arguments import positive_integer, seed
from vjepa2_ros.cli.configuration import add_configuration_arguments, configuration
from vjepa2_ros.tasks import task_names

_DEFAULT_OBJECT = "box"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "--task",
        default="pick_and_place",
        metavar="NAME",
        help=f"{', '.join(task_names())}, or module:ATTRIBUTE (default: pick_and_place)",
    )
    parser.add_argument(
        "--object", metavar="NAME", help="cup or box (default: the box, for tasks with objects)"
    )
    parser.add_argument(
        "--pictures", type=int, choices=(5, 3), default=3, help="see `vjepa2-ros evaluate`"
    )
    parser.add_argument(
        "--gripper",
        choices=("scripted", "planned"),
        default="planned",
        help="whether the goal says what the gripper does, or the planner decides",
    )
    parser.add_argument(
        "--episodes", type=positive_integer, default=5, help="of the task, and of play"
    )
    parser.add_argument("--seed", type=seed, default=1, help="of the scenes")
    parser.add_argument(
        "--baselines",
        type=Path,
        metavar="FILE",
        help="fitted policies, whose linear map is compared (default: baselines.safetensors beside "
        "the model, if it is there)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="tables, figures and images (default: runs/…)"
    )
    add_configuration_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure, write the files and print the tables.

    Returns:
        0; 1 if no plan can be made, 2 if something given cannot be used.
    """
    from vjepa2_ros.diagnosis import report
    from vjepa2_ros.diagnosis.approaches import approaches
    from vjepa2_ros.diagnosis.decisions import watch
    from vjepa2_ros.diagnosis.prediction import errors_by_situation, play_episodes
    from vjepa2_ros.diagnosis.representation import changes_of_latents
    from vjepa2_ros.evaluation.writable import check_folder
    from vjepa2_ros.policies import make_policy
    from vjepa2_ros.policies.baselines import baselines_path, load_baselines
    from vjepa2_ros.policies.linear import LinearWorldModel
    from vjepa2_ros.simulation.simulator import Simulator, SimulatorConfig
    from vjepa2_ros.tasks import load_task
    from vjepa2_ros.tasks.task import TaskOptions, check_options, scene_seeds
    from vjepa2_ros.world_model.checkpoint import open_world_model

    try:
        settings = configuration(arguments).settings
        if not settings.planner.action.gripper.is_searched:
            # Where no picture says what the gripper does, the planner decides, as in evaluations.
            searched = {"planner_node": {"gripper.mode": "enumerated"}}
            settings = configuration(arguments, searched).settings
        task = load_task(arguments.task)
        thing = arguments.object or (_DEFAULT_OBJECT if task.objects else None)
        options = TaskOptions(thing, arguments.pictures, arguments.gripper)
        check_options(task, options)
        scenes = scene_seeds(arguments.seed, arguments.episodes)
        planned = settings.planner
        model = open_world_model(planned.model, parts=None)
        fitted = arguments.baselines or baselines_path(planned.model.checkpoint)
        models = {"predictor": model}
        if arguments.baselines is not None or fitted.is_file():
            models["linear map"] = LinearWorldModel(model, load_baselines(fitted, model).linear)
        policy = make_policy("planner", settings, model)
    except (OSError, ValueError) as error:
        print(str(error), file=sys.stderr)
        return 2
    folder = arguments.output or Path("runs") / f"diagnose-{time.strftime('%Y%m%d-%H%M%S')}"
    check_folder(folder)
    cell = Simulator(SimulatorConfig(workspace=settings.simulator.workspace))
    changes = changes_of_latents(model, cell, scenes, planned.loop.cost)
    episodes = list(
        play_episodes(
            cell,
            scenes,
            planned.action.max_translation,
            model.predictor.config.commanded_gripper,
        )
    )
    errors = errors_by_situation(models, episodes)
    told = approaches(models, cell, scenes, planned.loop.cost, planned.loop.variance_weight)
    try:
        trials, decisions = watch(task, options, scenes, cell, settings, policy)
    except ValueError as error:  # of a plan, or model, pictures and settings do not fit each other
        print(f"cannot diagnose: {error}", file=sys.stderr)
        return 1
    found = {
        "task": arguments.task,
        "object": thing,
        "pictures": arguments.pictures,
        "gripper": arguments.gripper,
        "checkpoint": model.fingerprint,
        "successes": [trial.success for trial in trials],
        "causes": [trial.cause.value if trial.cause else None for trial in trials],
        **report.summary(changes, errors, told, decisions),
    }
    report.write(found, decisions, folder)
    print(report.markdown(found))
    print(f"{sum(found['successes'])} of {len(trials)} succeeded; figures in {folder}")
    return 0
