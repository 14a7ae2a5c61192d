# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros bench loop`: latencies of the running stack."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from vjepa2_ros.cli.arguments import seed
from vjepa2_ros.cli.configuration import add_configuration_arguments
from vjepa2_ros.cli.demo import demo_configuration, isolate

TIMEOUT = 120.0
"""Longest time for one goal [s]."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the benchmark."""
    parser.add_argument(
        "--seeds", nargs="+", type=seed, default=[1, 2, 3, 4, 5], metavar="N", help="scenes"
    )
    add_configuration_arguments(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="records (default: runs/loop-TIME)"
    )


def run(args: argparse.Namespace) -> int:
    """Reach the goal of each seed, first with stops and then with overlap; print latencies."""
    folder = args.output or Path("runs") / f"loop-{time.strftime('%Y%m%d-%H%M%S')}"
    if folder.exists():
        raise ValueError(f"{folder} exists already: give another --output")
    isolate()

    from rich.console import Console
    from rich.markdown import Markdown

    from vjepa2_ros import plain_json
    from vjepa2_ros.demo.report import latency_table
    from vjepa2_ros.demo.run import DemoError, DemoSettings
    from vjepa2_ros.demo.series import run_series
    from vjepa2_ros.ros.context import RosError
    from vjepa2_ros.ros.signals import stop_on_signal
    from vjepa2_ros.stack.client import ClientError
    from vjepa2_ros.stack.process_group import ProcessGroupError
    from vjepa2_ros.tasks.task import TaskOptions

    console, stop, series = Console(), stop_on_signal(), []
    try:
        for name, overlap in (("stops", False), ("overlap", True)):
            demos = []
            for number in args.seeds:
                effective = demo_configuration(args, number, "reach", None, overlap)
                options = TaskOptions(image_size=effective.settings.simulator.image_size)
                records = folder / name / f"seed-{number}"
                demos.append(DemoSettings(effective, options, records, None, TIMEOUT))
            series.append(run_series(demos, console, stop))
            if args.json is not None:
                plain_json.write(series, args.json)
    except (DemoError, RosError, ClientError, ProcessGroupError, OSError) as error:
        if stop.is_set():
            raise KeyboardInterrupt from None
        console.print(f"the loop failed: {error}", style="bold red", markup=False)
        return 1
    for figures in series:
        console.print(
            f"\n{'planning while the robot moves' if figures['overlap'] else 'with stops'}: "
            f"reached {figures['reached']} of {figures['runs']}, "
            f"{figures['start_distance_m_median'] * 100:.1f} to "
            f"{figures['final_distance_m_median'] * 100:.1f} cm in "
            f"{figures['steps_median']:.0f} steps and {figures['seconds_median']:.1f} s (medians)",
            style="bold",
        )
        console.print(Markdown(latency_table(figures)))
    return 0
