# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros bench speed`: what each speed-up of the evaluations gives."""

from __future__ import annotations

import argparse
from pathlib import Path

from vjepa2_ros.cli.arguments import positive_integer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the benchmark."""
    parser.add_argument("--checkpoint", help="model (default: the planner's parameter file)")
    parser.add_argument("--horizons", nargs="+", type=positive_integer, default=[1, 2, 8])
    parser.add_argument("--candidates", type=positive_integer, default=256)
    parser.add_argument("--repeats", type=positive_integer, default=5)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--threads", type=positive_integer, default=1, help="of PyTorch on the CPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")


def run(args: argparse.Namespace) -> int:
    """Print what each speed-up gives, as ratios to the reference in the same run."""
    import torch
    from rich.console import Console
    from rich.table import Table

    from vjepa2_ros.benchmark.decisions import make_decisions
    from vjepa2_ros.benchmark.speed import measure
    from vjepa2_ros.evaluation import plain_json
    from vjepa2_ros.planning.settings import read_node_parameters
    from vjepa2_ros.share import model_path, share_directory
    from vjepa2_ros.world_model.checkpoint import load_world_model

    torch.set_num_threads(args.threads)
    shipped = read_node_parameters(share_directory() / "config" / "planner_node.yaml")
    path = model_path(args.checkpoint or shipped["checkpoint"])
    model, rounded = (
        load_world_model(path, args.device, dtype) for dtype in ("float32", "bfloat16")
    )
    longest = model.predictor.config.max_frames
    if max(args.horizons) > longest:
        raise ValueError(f"horizon {max(args.horizons)} is more than the model's {longest} frames")
    (decision,) = make_decisions(model, seed=7, count=1)
    view = Table(title=f"{model.name} on {model.device}, {args.threads} thread(s)")
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
