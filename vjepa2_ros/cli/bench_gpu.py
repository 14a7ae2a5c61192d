# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros bench gpu`: all figures that need a GPU, written as docs/gpu.md."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from vjepa2_ros.cli.arguments import positive_number

if TYPE_CHECKING:
    import torch

SECTIONS = (
    "machine",
    "parity",
    "eager",
    "compiled",
    "captured",
    "compiled-captured",
    "plans",
    "tests",
    "loop",
)
"""Names of the sections, here as well so that the help needs no PyTorch."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the benchmark."""
    parser.add_argument(
        "--device", default="auto", help="auto (a GPU if there is one), cpu, cuda or cuda:N"
    )
    parser.add_argument(
        "--size",
        choices=("published", "tiny"),
        help="published (default on a GPU), or tiny, which also runs on a CPU (default there)",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="SECTION",
        choices=SECTIONS,
        help=f"sections to measure: {', '.join(SECTIONS)} (default: all)",
    )
    parser.add_argument(
        "--time-limit",
        type=positive_number,
        default=540.0,
        help="time for all sections [s]; those that would begin later are left out",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="report (default: docs/gpu.md of the source tree for all sections of the published "
        "size on a GPU, else runs/bench-gpu.md)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")


def run(args: argparse.Namespace) -> int:
    """Measure and write the report after each section.

    Returns:
        0 where everything was measured, 1 where something failed or was left out.

    Raises:
        ValueError: the device is not available, or too slow for the size.
    """
    from rich.console import Console

    from vjepa2_ros import plain_json
    from vjepa2_ros.benchmark import gpu, gpu_report
    from vjepa2_ros.world_model.checkpoint import choose_computation

    device, _ = choose_computation(args.device, "auto", "sdpa")
    size = args.size or ("published" if device.type == "cuda" else "tiny")
    if size == "published" and device.type != "cuda":
        raise ValueError("the published size takes hours on a CPU: use a GPU, or --size tiny")
    names = args.only or SECTIONS
    output = args.output or _default_output(device, size, args.only is None)
    about = gpu.description(_command(args), device, size)
    console = Console()
    console.print(f"{about['device']}, {size} size; report: {output}", markup=False)

    def write(sections: list[gpu.Section]) -> None:
        gpu_report.write(about, sections, output)
        if args.json is not None:
            plain_json.write(gpu.as_json(about, sections), args.json)
        last = sections[-1]
        state = "failed" if last.failed else "done"
        console.print(f"{last.title}: {state} in {last.seconds:.0f} s", markup=False)
        if last.error is not None:
            console.print(f"  {last.error}", style="red", markup=False)

    sections = gpu.measure_all(device, size, names, args.time_limit, write)
    return int(any(section.failed for section in sections))


def _default_output(device: torch.device, size: str, all_sections: bool) -> Path:
    """docs/gpu.md is for full runs on a GPU; others do not overwrite it."""
    from vjepa2_ros.share import share_directory

    documents = share_directory() / "docs"
    if device.type == "cuda" and size == "published" and all_sections and documents.is_dir():
        return documents / "gpu.md"
    return Path("runs") / "bench-gpu.md"


def _command(args: argparse.Namespace) -> str:
    """The command that measures the same again, without where it writes."""
    words = ["vjepa2-ros", "bench", "gpu", "--device", args.device]
    if args.size is not None:
        words += ["--size", args.size]
    if args.only is not None:
        words += ["--only", *args.only]
    return shlex.join(words)
