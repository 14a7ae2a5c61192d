# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros soak`: thousands of steps with interruptions; what the processes use meanwhile."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from vjepa2_ros.cli.arguments import positive_integer, seed
from vjepa2_ros.cli.demo import isolate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "--replans", type=positive_integer, default=10_000, help="commands to be planned"
    )
    parser.add_argument(
        "--franka",
        action="store_true",
        help="with the simulated arm behind the Franka control interface",
    )
    parser.add_argument(
        "--overlap", action="store_true", help="plan on while the arm moves: more plans a second"
    )
    parser.add_argument("--seed", type=seed, default=1, help="of the interruptions")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="results, curve and log: default runs/soak-TIME"
    )


def run(args: argparse.Namespace) -> int:
    """Soak; 0 if no stop was missed."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    from vjepa2_ros import plain_json

    try:
        isolate()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    from vjepa2_ros.faults.bench import FaultBench, FaultBenchError
    from vjepa2_ros.faults.fault import FRANKA, SIMULATED
    from vjepa2_ros.faults.soak import Soak, soak
    from vjepa2_ros.faults.soak_figure import draw
    from vjepa2_ros.faults.stack import FaultStack
    from vjepa2_ros.stack.process_group import ProcessGroupError

    folder = args.output or Path("runs") / f"soak-{time.strftime('%Y%m%d-%H%M%S')}"
    folder.mkdir(parents=True)
    columns = MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    try:
        with (
            FaultBench(FaultStack(folder / "nodes.log", overlap=args.overlap)) as bench,
            Progress(*columns, console=Console(stderr=True)) as progress,
        ):
            bar = progress.add_task("", total=args.replans)

            def show(outcome: Soak) -> None:
                progress.update(bar, completed=outcome.replans)
                plain_json.write(outcome.as_dict(), folder / "soak.json")

            kind = FRANKA if args.franka else SIMULATED
            outcome = soak(bench, kind, args.replans, args.seed, show)
            show(outcome)
    except (FaultBenchError, ProcessGroupError) as error:
        print(f"{error}; see {folder / 'nodes.log'}", file=sys.stderr)
        return 1
    draw(outcome, folder / "soak.png")
    events = ", ".join(f"{name} {count}" for name, count in sorted(outcome.events.items()))
    print(
        f"{outcome.replans} commands in {outcome.seconds / 60:.0f} min; {events}; "
        f"{outcome.missed_stops} stops missed"
        + "".join(f", {name} {count}" for name, count in sorted(outcome.missed.items()))
    )
    for node, gained in outcome.growth().items():
        print(
            f"{node}: {gained['memory']:+.1f} MiB, {gained['threads']:+.0f} threads, "
            f"{gained['handles']:+.0f} handles"
        )
    print(f"results, curve and log: {folder}")
    return 1 if outcome.missed_stops else 0
