# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros bench speed`: what each speed-up of the evaluations gives."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from vjepa2_ros.cli.arguments import positive_integer
from vjepa2_ros.cli.configuration import (
    add_computation_arguments,
    add_configuration_arguments,
    computation,
    configuration,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the benchmark."""
    add_configuration_arguments(parser)
    parser.add_argument(
        "--horizons",
        nargs="+",
        type=positive_integer,
        default=[1, 2, 8],
        metavar="N",
        help="actions in a sequence",
    )
    parser.add_argument(
        "--candidates", type=positive_integer, default=256, help="evaluated at once"
    )
    parser.add_argument(
        "--repeats", type=positive_integer, default=5, help="repetitions; the median is reported"
    )
    add_computation_arguments(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")


def run(args: argparse.Namespace) -> int:
    """Print what each speed-up gives, as ratios to the reference in the same run."""
    from rich.console import Console
    from rich.table import Table

    from vjepa2_ros import plain_json
    from vjepa2_ros.benchmark.decisions import make_decisions
    from vjepa2_ros.benchmark.speed import measure
    from vjepa2_ros.world_model.checkpoint import open_world_model

    settings = configuration(args, computation(args)).settings.planner.model
    model, rounded = (
        open_world_model(replace(settings, dtype=dtype)) for dtype in ("float32", "bfloat16")
    )
    longest = model.predictor.config.max_frames
    if max(args.horizons) > longest:
        raise ValueError(f"horizon {max(args.horizons)} is more than the model's {longest} frames")
    (decision,) = make_decisions(model, seed=7, count=1)
    view = Table(title=f"{model.name} on {model.device}, {settings.threads} thread(s)")
    for column in ("horizon", "what", "ms each", "× reference", "largest error", "rank corr."):
        view.add_column(column, justify="right")
    rows = []
    for horizon in args.horizons:
        rows += measure(model, rounded, decision, horizon, args.candidates, args.repeats)
    for row in rows:
        view.add_row(
            str(row["horizon"]),
            row["what"],
            f"{row['milliseconds']:.2f}",
            f"{row['ratio']:.2f}",
            f"{row['error']:.1e}",
            f"{row['rank_correlation']:.5f}",
        )
    Console().print(view)
    if args.json is not None:
        plain_json.write(rows, args.json)
    return 0
