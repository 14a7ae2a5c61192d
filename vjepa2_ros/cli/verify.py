# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros verify`: compare this package with tensors of the reference implementation."""

import argparse
from pathlib import Path

from rich.markup import escape

from vjepa2_ros.cli.tables import wide_console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "folder",
        metavar="DIR",
        nargs="?",
        type=Path,
        help="folder of meta_X.json, arrays_X.npz, weights_X.safetensors (default: test/golden of "
        "the source tree)",
    )
    parser.add_argument(
        "--device", default="cpu", help="where the networks run: cpu, cuda, cuda:1, …"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print a table of every comparison.

    Returns:
        0 where all comparisons pass, 1 where one fails, 2 where nothing can be compared.
    """
    from vjepa2_ros.verification.golden import GoldenError
    from vjepa2_ros.verification.verify import project_folder, table
    from vjepa2_ros.verification.verify import run as compare_all

    console = wide_console()
    try:
        folder = arguments.folder or project_folder()
        cases = compare_all(folder, arguments.device)
    except GoldenError as error:
        console.print(f"[bold red]cannot verify:[/] {escape(str(error))}", soft_wrap=True)
        return 2
    failed = [case for case in cases if not case.passed]
    console.print(table(cases, f"comparison with {folder}"))
    console.print(f"{len(cases)} comparisons, {len(failed)} failed")
    return 1 if failed else 0
