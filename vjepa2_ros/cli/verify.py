# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros verify DIR`: compare this package with tensors of the reference implementation."""

import argparse
import sys

from rich.console import Console
from rich.markup import escape

PIPED_WIDTH = 160


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", metavar="DIR", help="folder of meta_X.json, arrays_X.npz, weights_X.safetensors"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print a table of every comparison.  0: all pass, 1: a breach, 2: the folder is unusable."""
    from vjepa2_ros.verification.golden import GoldenError
    from vjepa2_ros.verification.verify import run as compare_all
    from vjepa2_ros.verification.verify import table

    # Rows stay whole in a file or a pipe, which has no width of its own.
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    try:
        cases = compare_all(arguments.folder)
    except GoldenError as error:
        console.print(f"[bold red]cannot verify:[/] {escape(str(error))}", soft_wrap=True)
        return 2
    failed = [case for case in cases if not case.passed]
    console.print(table(cases, f"comparison with {arguments.folder}"))
    console.print(f"{len(cases)} comparisons, {len(failed)} failed")
    return 1 if failed else 0
