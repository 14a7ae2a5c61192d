# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros evaluate`: closed-loop trials in the simulation, with the settings of the nodes."""

import argparse
import time
from pathlib import Path

from vjepa2_ros.cli.arguments import positive_integer, seed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("--task", choices=["reach"], default="reach")
    parser.add_argument("--episodes", type=positive_integer, default=50, help="number of trials")
    parser.add_argument(
        "--seed", type=seed, default=1, help="of the trials, which training never saw"
    )
    parser.add_argument(
        "--steps", type=positive_integer, default=15, help="most steps in an episode"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the figures and curves here as well"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="figures and pictures (default: runs/reach-TIME)"
    )
    parser.add_argument(
        "--checkpoint",
        help="model folder, .pt file, or a name under models/ (default: the planner file's)",
    )
    parser.add_argument(
        "--planner", type=Path, metavar="YAML", help="parameter file of the planner node"
    )
    parser.add_argument(
        "--controller", type=Path, metavar="YAML", help="parameter file of the controller node"
    )
    parser.add_argument(
        "--threads", type=positive_integer, help="threads of PyTorch (default: the planner file's)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Play the episodes, print the table, write the files; 2 if something given cannot be used."""
    from rich.console import Console
    from rich.markup import escape
    from tqdm import tqdm

    from vjepa2_ros.evaluation import report
    from vjepa2_ros.evaluation.reach import run_episodes, scene_seeds
    from vjepa2_ros.planning.receding_horizon import RecedingHorizon
    from vjepa2_ros.planning.settings import loop_settings, planner
    from vjepa2_ros.robot.safety import MotionLimits

    console = Console()
    try:
        seeds = scene_seeds(arguments.seed, arguments.episodes)
        values = planner_values(arguments)
        search = planner(values)
        settings = loop_settings(values, [arguments.steps])
        controller = _parameters("controller_node", arguments.controller)
        limits = MotionLimits(
            **{
                name: controller[name]
                for name in MotionLimits.__dataclass_fields__
                if name in controller
            }
        )
        model = load_model(values)
    except (OSError, TypeError, ValueError) as error:
        console.print(f"[bold red]cannot evaluate:[/] {escape(str(error))}", soft_wrap=True)
        return 2

    def make_loop(goal_image):
        return RecedingHorizon(search, model, model.encode(goal_image)[None], settings)

    episodes = run_episodes(seeds, make_loop, limits)
    results = list(tqdm(episodes, total=len(seeds), desc="reach", unit="episode"))
    used = dict(sorted(values.items())) | {"evaluations": search.evaluations}
    figures = report.summary(results, arguments.seed, values["checkpoint"], used)
    console.print(report.table(figures))
    folder = arguments.output or Path("runs") / f"reach-{time.strftime('%Y%m%d-%H%M%S')}"
    report.write(results, figures, folder, arguments.json)
    console.print(f"curves and pictures in {folder}", markup=False)
    return 0


def planner_values(arguments: argparse.Namespace) -> dict:
    """Parameters of the planner: the shipped file's, what --planner changes, and the options.

    Raises ValueError or OSError where the file cannot be used.
    """
    options = {"checkpoint": arguments.checkpoint, "threads": arguments.threads}
    given = {name: value for name, value in options.items() if value is not None}
    return _parameters("planner_node", arguments.planner) | given


def load_model(values: dict):
    """The world model as the planner node would load it; ValueError where that cannot be done."""
    import torch

    from vjepa2_ros.share import model_path
    from vjepa2_ros.world_model.checkpoint import load_world_model

    threads = values["threads"]
    if type(threads) is not int or threads < 1:
        raise ValueError(f"threads must be a whole number from 1, not {threads!r}")
    torch.set_num_threads(threads)
    path = model_path(values["checkpoint"])
    return load_world_model(path, values["device"], values["dtype"], values["attention"])


def _parameters(node: str, path: Path | None) -> dict:
    """Parameters of a node: those of the shipped file, and what another one sets on top.

    Raises ValueError on a name that the shipped file lacks.
    """
    from vjepa2_ros.planning.settings import read_node_parameters
    from vjepa2_ros.share import share_directory

    shipped = read_node_parameters(share_directory() / "config" / f"{node}.yaml")
    given = {} if path is None else read_node_parameters(path)
    unknown = sorted(set(given) - set(shipped))
    if unknown:
        known = ", ".join(sorted(shipped))
        raise ValueError(f"{path} sets unknown parameters: {', '.join(unknown)}; known: {known}")
    return shipped | given
