# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros bench planning`: what plans are worth against what they cost."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vjepa2_ros.cli.arguments import positive_integer, seed, whole_number
from vjepa2_ros.cli.configuration import add_configuration_arguments, configuration
from vjepa2_ros.cli.tables import wide_console

if TYPE_CHECKING:
    from vjepa2_ros.benchmark.planning import Setting
    from vjepa2_ros.settings.planning import LoopSettings
    from vjepa2_ros.world_model.world_model import WorldModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the benchmark."""
    parser.add_argument("--seed", type=seed, default=7, help="of the bundle of decisions")
    parser.add_argument("--planners", nargs="+", metavar="NAME", help="default: all")
    parser.add_argument(
        "--budgets",
        nargs="+",
        type=positive_integer,
        metavar="N",
        help="evaluations in a plan; those that a planner does not take are left out "
        "(default: 16 … 8000)",
    )
    parser.add_argument("--horizon", type=positive_integer, default=1, help="actions in a plan")
    parser.add_argument("--gripper", default="sampled", help="sampled or enumerated")
    parser.add_argument("--cost", default="l1", help="l1 or l2")
    parser.add_argument(
        "--context", type=positive_integer, default=1, help="frames that the model sees, 1 or 2"
    )
    parser.add_argument(
        "--warm-start",
        action="store_true",
        help="plan each decision from the rest of the plan one step before (horizon 2 or more)",
    )
    parser.add_argument(
        "--decisions",
        type=positive_integer,
        default=100,
        help="scenes with a goal image; the reference takes 8,000 evaluations for each",
    )
    parser.add_argument(
        "--contacts",
        type=whole_number,
        default=0,
        help="decisions of contact beside them: to fetch, grip, lift and let go of an object",
    )
    parser.add_argument(
        "--episodes", type=whole_number, default=20, help="reach trials for each row"
    )
    parser.add_argument(
        "--no-closed-loop",
        action="store_true",
        help="skip the closed-loop trials (the slowest part)",
    )
    parser.add_argument("--workers", type=positive_integer, default=2, help="processes")
    add_configuration_arguments(parser)
    parser.add_argument("--dtype", help="auto, float32 or bfloat16 (default: configured)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here as well")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="table, figure and all that was measured; what is there already is not measured again "
        "(default: runs/bench-TIME)",
    )


def run(args: argparse.Namespace) -> int:
    """Print the table, and write it as JSON, Markdown and figure after each row."""
    from vjepa2_ros import plain_json
    from vjepa2_ros.benchmark import planning, planning_report
    from vjepa2_ros.planning.planners import make_planner_named
    from vjepa2_ros.settings.planning import search_names
    from vjepa2_ros.world_model.checkpoint import open_world_model

    planners, budgets = args.planners or search_names(), args.budgets or planning.BUDGETS
    for name in planners:
        try:
            make_planner_named(name, max(budgets))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    stack = configuration(args, {"/**": {"dtype": args.dtype}}).settings
    shipped = stack.planner
    load = partial(open_world_model, replace(shipped.model, threads=1))
    setting = _setting(args, load(), shipped.loop)  # refused here, and not in each process
    as_shipped = not setting.warm and (setting.horizon, setting.cost, setting.context) == (
        shipped.action.horizon,
        shipped.loop.cost,
        shipped.loop.context,
    )
    folder = args.output or Path("runs") / f"bench-{time.strftime('%Y%m%d-%H%M%S')}"
    rows = []
    episodes = 0 if args.no_closed_loop else args.episodes
    with planning.Benchmark(
        load, setting, stack, episodes, args.workers, folder / "kept"
    ) as benchmark:
        for name in planners:
            for budget in budgets:
                try:
                    make_planner_named(name, budget)
                except ValueError as error:
                    print(f"left out: {name} with {budget}: {error}", file=sys.stderr)
                    continue
                row = benchmark.row(name, budget)
                default = (name, budget) == (
                    shipped.search.planner,
                    shipped.search.chosen.evaluations,
                )
                rows.append({**row, "default": default and as_shipped})
                # After each row, so that an interrupted run leaves what it has measured.
                planning_report.write(rows, folder)
                if args.json is not None:
                    plain_json.write(rows, args.json)
    wide_console().print(planning_report.table(rows))
    print(f"table and figure in {folder}")
    return 0


def _setting(args: argparse.Namespace, model: WorldModel, loop: LoopSettings) -> Setting:
    """What arguments and settings ask for; ValueError where it is invalid."""
    from vjepa2_ros.benchmark.planning import Setting
    from vjepa2_ros.settings.planning import COSTS, SEARCHED

    if args.cost not in COSTS:
        raise ValueError(f"unknown cost {args.cost!r}: use {' or '.join(COSTS)}")
    if args.gripper not in SEARCHED:
        raise ValueError(f"unknown gripper {args.gripper!r}: use {' or '.join(SEARCHED)}")
    if args.context > 2:
        raise ValueError(f"context must be 1 or 2, got {args.context}")
    if args.warm_start and args.horizon == 1:
        raise ValueError("of a plan of one action nothing is left: give --horizon 2 or more")
    longest = model.predictor.config.max_frames
    if args.context - 1 + args.horizon > longest:
        raise ValueError(
            f"context {args.context} and horizon {args.horizon} are together more than the model's "
            f"{longest} frames"
        )
    dtype = str(model.compute_dtype).removeprefix("torch.")
    setting = Setting(
        f"{model.fingerprint} {model.uncertainty_fingerprint} {dtype} {model.device}",
        args.seed,
        args.decisions,
        args.horizon,
        args.gripper,
        args.cost,
        args.context,
        args.warm_start,
        loop.path_weight,
        loop.variance_weight if args.cost == "l2" else 0.0,
        args.contacts,
    )
    _ = setting.space  # refuses a gripper that is none
    return setting
