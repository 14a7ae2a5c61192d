# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros evaluate`: closed-loop trials in the simulation, with the settings of the nodes."""

import argparse
import time
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", choices=["reach"], default="reach")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument(
        "--seed",
        type=int,
        default=1,
        help="of the trials; seeds below a million were never trained on",
    )
    parser.add_argument("--steps", type=int, default=15, help="most steps in an episode")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the figures and curves here as well"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="figures and pictures (default: runs/reach-TIME)"
    )
    parser.add_argument(
        "--checkpoint", default="reach", help="model folder, .pt file, or a name under models/"
    )
    parser.add_argument(
        "--planner", type=Path, metavar="YAML", help="parameter file of the planner node"
    )
    parser.add_argument(
        "--controller", type=Path, metavar="YAML", help="parameter file of the controller node"
    )
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch")


def run(arguments: argparse.Namespace) -> int:
    """Play the episodes, print the table, write the files; 2 where something given cannot be used."""
    import torch
    from rich.console import Console
    from tqdm import tqdm

    from vjepa2_ros.evaluation import report
    from vjepa2_ros.evaluation.reach import run_episodes
    from vjepa2_ros.planning.cem import CrossEntropyMethod
    from vjepa2_ros.planning.receding_horizon import RecedingHorizon
    from vjepa2_ros.planning.settings import cem_config, loop_settings, read_node_parameters
    from vjepa2_ros.robot.safety import MotionLimits
    from vjepa2_ros.share import model_path, share_directory
    from vjepa2_ros.world_model.checkpoint import load_world_model

    console = Console()
    torch.set_num_threads(arguments.threads)
    config = share_directory() / "config"
    try:
        if arguments.episodes < 1 or arguments.steps < 1:
            raise ValueError("--episodes and --steps must be at least 1")
        model = load_world_model(model_path(arguments.checkpoint))
        values = read_node_parameters(config / "planner_node.yaml")
        if arguments.planner is not None:
            values |= _known(read_node_parameters(arguments.planner), values, arguments.planner)
        search = cem_config(values)
        settings = loop_settings(values, [arguments.steps])
        controller = read_node_parameters(config / "controller_node.yaml")
        if arguments.controller is not None:
            controller |= _known(
                read_node_parameters(arguments.controller), controller, arguments.controller
            )
        limits = MotionLimits(
            **{
                name: controller[name]
                for name in MotionLimits.__dataclass_fields__
                if name in controller
            }
        )
    except (OSError, TypeError, ValueError) as error:
        console.print(f"[bold red]cannot evaluate:[/] {error}", soft_wrap=True)
        return 2

    def make_loop(goal_image):
        return RecedingHorizon(
            CrossEntropyMethod(search), model, model.encode(goal_image)[None], settings
        )

    # ten thousand scenes a seed, so that the trials of small seeds never meet
    seeds = [arguments.seed * 10_000 % 1_000_000 + number for number in range(arguments.episodes)]
    results = list(
        tqdm(run_episodes(seeds, make_loop, limits), total=len(seeds), desc="reach", unit="episode")
    )
    used = {name: values[name] for name in sorted(values)} | {
        "evaluations": search.samples * search.iterations
    }
    figures = report.summary(results, arguments.seed, arguments.checkpoint, used)
    console.print(report.table(figures))
    folder = arguments.output or Path("runs") / f"reach-{time.strftime('%Y%m%d-%H%M%S')}"
    report.write(results, figures, folder, arguments.json)
    console.print(f"curves and pictures in {folder}")
    return 0


def _known(given: dict, shipped: dict, path: Path) -> dict:
    """What a parameter file sets, on top of the shipped one. ValueError on a name that the shipped one lacks."""
    unknown = sorted(set(given) - set(shipped))
    if unknown:
        raise ValueError(
            f"{path} sets unknown parameters: {', '.join(unknown)}; known: {', '.join(sorted(shipped))}"
        )
    return given
