# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros bench KIND`: what planning costs, and what it is worth."""

import argparse
import sys

from vjepa2_ros.cli import (
    bench_gpu,
    bench_loop,
    bench_model,
    bench_planning,
    bench_speed,
    bench_surprise,
)

KINDS = {
    "planning": (bench_planning, "plan quality of every planner against its evaluations"),
    "speed": (bench_speed, "what each speed-up of the evaluations gives"),
    "model": (bench_model, "time and memory of the networks against their floor"),
    "loop": (bench_loop, "latencies of the whole stack on the simulated arm"),
    "surprise": (bench_surprise, "whether surprise tells disturbances from ordinary steps"),
    "gpu": (bench_gpu, "all figures that need a GPU, as a report"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    for name, (module, text) in KINDS.items():
        kind = kinds.add_parser(name, help=text, description=text)
        module.add_arguments(kind)
        kind.set_defaults(function=module.run)


def run(args: argparse.Namespace) -> int:
    """Run the benchmark that was asked for; 2 where something given cannot be used."""
    from vjepa2_ros.evaluation import writable

    try:
        if args.json is not None:
            writable.check_file(args.json)
        return args.function(args)
    except (OSError, ValueError) as error:
        print(f"cannot measure: {error}", file=sys.stderr)
        return 2
