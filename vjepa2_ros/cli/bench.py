# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros bench`: what planning costs, and what it is worth."""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vjepa2_ros.cli.arguments import positive_integer, seed, whole_number

if TYPE_CHECKING:
    from vjepa2_ros.benchmark.planning import Setting
    from vjepa2_ros.world_model.world_model import WorldModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    planning = kinds.add_parser(
        "planning", help="plan quality of every planner against its number of evaluations"
    )
    planning.set_defaults(function=bench_planning)
    planning.add_argument("--seed", type=seed, default=7, help="of the bundle of decisions")
    planning.add_argument("--planners", nargs="+", metavar="NAME", help="default: all")
    planning.add_argument(
        "--budgets", nargs="+", type=positive_integer, metavar="N", help="evaluations in a plan"
    )
    planning.add_argument("--horizon", type=positive_integer, default=1, help="actions in a plan")
    planning.add_argument("--gripper", default="sampled", help="sampled or enumerated")
    planning.add_argument("--cost", default="l1", help="l1 or l2")
    planning.add_argument(
        "--context", type=positive_integer, default=1, help="frames that the model sees, 1 or 2"
    )
    planning.add_argument(
        "--warm-start",
        action="store_true",
        help="plan each decision from the rest of the plan one step before (horizon 2 or more)",
    )
    planning.add_argument("--decisions", type=positive_integer, default=100)
    planning.add_argument(
        "--episodes", type=whole_number, default=20, help="reach trials for each row"
    )
    planning.add_argument(
        "--no-closed-loop", action="store_true", help="leave the trials out, which take longest"
    )
    planning.add_argument("--workers", type=positive_integer, default=2, help="processes")
    planning.add_argument("--checkpoint", help="model (default: the planner's parameter file)")
    planning.add_argument("--dtype", default="auto", help="auto, float32, bfloat16")
    planning.add_argument("--json", type=Path, metavar="FILE", help="write the rows here as well")
    planning.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="table, figure and all that was measured; what is there already is not measured again "
        "(default: runs/bench-TIME)",
    )

    model = kinds.add_parser("model", help="time and memory of the networks against their floor")
    model.set_defaults(function=bench_model)
    model.add_argument(
        "--checkpoint",
        help="model (default: the planner's parameter file), or `published`: the geometry of "
        "vjepa2-ac-vitg with random weights",
    )
    model.add_argument(
        "--save",
        type=Path,
        metavar="DIR",
        help="with `published`: write the random model as a folder that the nodes can load",
    )
    model.add_argument("--batches", nargs="+", type=positive_integer, default=[1, 64])
    model.add_argument("--repeats", type=positive_integer, default=5)
    model.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    model.add_argument("--dtype", default="auto", help="auto, float32, bfloat16")
    model.add_argument("--threads", type=positive_integer, help="threads of PyTorch on the CPU")
    model.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")

    speed = kinds.add_parser(
        "speed", help="what each exact speed-up of the evaluations gives against the reference"
    )
    speed.set_defaults(function=bench_speed)
    speed.add_argument("--checkpoint", help="model (default: the planner's parameter file)")
    speed.add_argument("--horizons", nargs="+", type=positive_integer, default=[1, 2, 8])
    speed.add_argument("--candidates", type=positive_integer, default=256)
    speed.add_argument("--repeats", type=positive_integer, default=5)
    speed.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    speed.add_argument("--threads", type=positive_integer, default=1, help="of PyTorch on the CPU")
    speed.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")


def run(args: argparse.Namespace) -> int:
    """Run the benchmark that was asked for; 2 where something given cannot be used."""
    try:
        return args.function(args)
    except (OSError, ValueError) as error:
        print(f"cannot measure: {error}", file=sys.stderr)
        return 2


def bench_planning(args: argparse.Namespace) -> int:
    """Print the table, and write it as JSON, Markdown and figure after each row."""
    from rich.console import Console

    from vjepa2_ros.benchmark import planning, planning_report
    from vjepa2_ros.planning.planners import PLANNERS, make_planner
    from vjepa2_ros.planning.settings import read_node_parameters
    from vjepa2_ros.share import model_path, share_directory
    from vjepa2_ros.world_model.checkpoint import load_world_model

    shipped = read_node_parameters(share_directory() / "config" / "planner_node.yaml")
    planners, budgets = args.planners or list(PLANNERS), args.budgets or planning.BUDGETS
    for name in planners:
        make_planner(name, max(budgets))
    path = model_path(args.checkpoint or shipped["checkpoint"])
    load = partial(load_world_model, path, dtype=args.dtype)
    setting = _setting(args, load())  # refused here, and not in each process
    as_shipped = not setting.warm and all(
        getattr(setting, name) == shipped[name]
        for name in ("horizon", "gripper", "cost", "context")
    )
    folder = args.output or Path("runs") / f"bench-{time.strftime('%Y%m%d-%H%M%S')}"
    rows = []
    episodes = 0 if args.no_closed_loop else args.episodes
    with planning.Benchmark(load, setting, episodes, args.workers, folder / "kept") as benchmark:
        for name in planners:
            for budget in budgets:
                try:
                    make_planner(name, budget)
                except ValueError as error:
                    print(f"left out: {name} with {budget}: {error}", file=sys.stderr)
                    continue
                row = benchmark.row(name, budget)
                default = (name, budget) == (shipped["planner"], shipped["evaluations"])
                rows.append({**row, "default": default and as_shipped})
                # After each row, so that an interrupted run leaves what it has measured.
                planning_report.write(rows, folder)
                if args.json is not None:
                    _write_json(rows, args.json)
    Console().print(planning_report.table(rows))
    print(f"table and figure in {folder}")
    return 0


def _setting(args: argparse.Namespace, model: WorldModel) -> Setting:
    """What the arguments of `bench planning` ask for; ValueError where it makes no sense."""
    from vjepa2_ros.benchmark.planning import Setting
    from vjepa2_ros.planning.objective import COSTS

    if args.cost not in COSTS:
        raise ValueError(f"unknown cost {args.cost!r}: use {' or '.join(COSTS)}")
    if args.context > 2:
        raise ValueError(f"context must be 1 or 2, got {args.context}")
    if args.warm_start and args.horizon == 1:
        raise ValueError("of a plan of one action nothing is left: give --horizon 2 or more")
    setting = Setting(
        f"{model.fingerprint} {str(model.compute_dtype).removeprefix('torch.')}",
        args.seed,
        args.decisions,
        args.horizon,
        args.gripper,
        args.cost,
        args.context,
        args.warm_start,
    )
    _ = setting.space  # refuses a gripper that is none
    return setting


def _write_json(figures: object, path: Path) -> None:
    from vjepa2_ros.evaluation import plain_json

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(plain_json.dumps(figures, indent=1))


def bench_model(args: argparse.Namespace) -> int:
    """Print what encoder and predictor cost here."""
    import torch
    from rich.console import Console
    from rich.table import Table

    from vjepa2_ros.benchmark import model as benchmark
    from vjepa2_ros.planning.settings import read_node_parameters
    from vjepa2_ros.share import model_path, share_directory
    from vjepa2_ros.world_model.checkpoint import (
        choose_computation,
        load_world_model,
        save_world_model,
    )

    if args.threads is not None:
        torch.set_num_threads(args.threads)
    if args.checkpoint == "published":
        device, dtype = choose_computation(args.device, args.dtype, "sdpa")
        model = benchmark.published_size(dtype, device)
        if args.save is not None:
            save_world_model(model, args.save, {"weights": "random"})
    elif args.save is not None:
        raise ValueError("--save goes with --checkpoint published")
    else:
        shipped = read_node_parameters(share_directory() / "config" / "planner_node.yaml")
        path = model_path(args.checkpoint or shipped["checkpoint"])
        model = load_world_model(path, args.device, args.dtype)
    figures = benchmark.measure(model, args.batches, args.repeats)
    view = Table(
        title=f"{figures['model']} on {figures['device']}, {figures['dtype']}, "
        f"{figures['threads']} thread(s): {figures['parameters'] / 1e6:.1f} M parameters, "
        f"peak memory {figures['peak_memory_gib']:.2f} GiB, "
        f"matrix products {figures['matmul_tflops']:.3f} TFLOP/s"
    )
    for column in ("what", "at once", "GFLOP each", "ms each", "floor [ms]", "share of floor"):
        view.add_column(column, justify="right")
    for cost in figures["costs"]:
        view.add_row(
            cost["what"],
            str(cost["candidates"]),
            f"{cost['gflop']:.3f}",
            f"{cost['seconds'] * 1e3:.3f}",
            f"{cost['floor_seconds'] * 1e3:.3f}",
            f"{cost['share']:.0%}",
        )
    Console().print(view)
    if args.json is not None:
        _write_json(figures, args.json)
    return 0


def bench_speed(args: argparse.Namespace) -> int:
    """Print what each speed-up gives, as ratios to the reference in the same run."""
    import torch
    from rich.console import Console
    from rich.table import Table

    from vjepa2_ros.benchmark.decisions import make_decisions
    from vjepa2_ros.benchmark.speed import measure
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
        _write_json(rows, args.json)
    return 0
