# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros bench surprise`: whether surprise tells disturbances from ordinary steps."""

from __future__ import annotations

import argparse
from pathlib import Path

from vjepa2_ros.cli.arguments import positive_integer, seed
from vjepa2_ros.cli.configuration import (
    add_computation_arguments,
    add_configuration_arguments,
    computation,
    configuration,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the benchmark."""
    parser.add_argument(
        "--scenes", type=positive_integer, default=10, help="of each task (default: 10)"
    )
    parser.add_argument("--seed", type=seed, default=1, help="of the scenes (default: 1)")
    add_configuration_arguments(parser)
    add_computation_arguments(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")


def run(args: argparse.Namespace) -> int:
    """Play the episodes; print a table."""
    from rich.console import Console
    from rich.table import Table
    from tqdm import tqdm

    from vjepa2_ros import plain_json
    from vjepa2_ros.benchmark.surprise import EVENTS, TASKS, held_out, samples, separation
    from vjepa2_ros.world_model.checkpoint import open_world_model

    settings = configuration(args, computation(args)).settings
    model = open_world_model(settings.planner.model)
    count = len(TASKS) * args.scenes * (len(EVENTS) + 1)
    episodes = samples(model, settings, args.scenes, args.seed)
    found = [s for episode in tqdm(episodes, total=count, unit="episode") for s in episode]
    figures = {"model": model.fingerprint, **separation(found), "held_out": held_out(found)}
    ordinary = figures["ordinary"]
    console = Console()
    console.print(
        f"{ordinary['count']} ordinary steps: median {ordinary['median']:.3f}, 99 % "
        f"{ordinary['quantile_99']:.3f}, largest {ordinary['largest']:.3f}; threshold "
        f"{figures['threshold']:.3f}"
    )
    table = Table()
    for name in ("before the step", "n", "median", "AUC", "above the threshold"):
        table.add_column(name, justify="left" if name.startswith("before") else "right")
    for name, row in figures["events"].items():
        table.add_row(
            name,
            str(row["count"]),
            f"{row['median']:.3f}",
            f"{row['auc']:.3f}",
            f"{row['found'] * 100:.0f} %",
        )
    console.print(table)
    shares = figures["held_out"]
    console.print(
        f"with the threshold of one half of the scenes in the other: {shares['found'] * 100:.1f} % "
        f"of the events, {shares['false_alarms'] * 100:.2f} % false alarms"
    )
    if args.json is not None:
        plain_json.write(figures, args.json)
    return 0
