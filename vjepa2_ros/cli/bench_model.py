# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros bench model`: time and memory of the networks against their floor."""

from __future__ import annotations

import argparse
from pathlib import Path

from vjepa2_ros.cli.arguments import positive_integer
from vjepa2_ros.cli.configuration import (
    add_computation_arguments,
    add_configuration_arguments,
    computation,
    configuration,
)

PUBLISHED = "published"
"""Checkpoint that stands for the geometry of vjepa2-ac-vitg with random weights."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the benchmark."""
    add_configuration_arguments(parser)
    parser.add_argument(
        "--save",
        type=Path,
        metavar="DIR",
        help="with `--checkpoint published`, the geometry of vjepa2-ac-vitg with random weights: "
        "write the random model as a folder that the nodes can load",
    )
    parser.add_argument(
        "--batches",
        nargs="+",
        type=positive_integer,
        default=[1, 64],
        metavar="N",
        help="candidates evaluated at once",
    )
    parser.add_argument(
        "--repeats", type=positive_integer, default=5, help="repetitions; the median is reported"
    )
    parser.add_argument(
        "--clips",
        nargs="+",
        metavar="NAME",
        help="instead: what a video clip costs in the published encoders vitl, vith, vitg, "
        "vitg-384, with random weights",
    )
    parser.add_argument(
        "--frames", type=positive_integer, help="with --clips: frames of a clip (default: 64)"
    )
    add_computation_arguments(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")


def run(args: argparse.Namespace) -> int:
    """Print what encoder and predictor, or clips, cost here."""
    if args.clips is not None:
        return _clips(args)
    if args.frames is not None:
        raise ValueError("--frames goes with --clips")
    import torch
    from rich.console import Console
    from rich.table import Table

    from vjepa2_ros import plain_json
    from vjepa2_ros.benchmark import model as benchmark
    from vjepa2_ros.world_model.checkpoint import (
        choose_computation,
        open_world_model,
        save_world_model,
    )

    settings = configuration(args, computation(args)).settings.planner.model
    if args.checkpoint == PUBLISHED:
        torch.set_num_threads(args.threads or torch.get_num_threads())
        device, dtype = choose_computation(settings.device, settings.dtype, settings.attention)
        model = benchmark.published_size(dtype, device)
        if args.save is not None:
            save_world_model(model, args.save, {"weights": "random"})
    elif args.save is not None:
        raise ValueError("--save goes with --checkpoint published")
    else:
        model = open_world_model(settings)
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
        plain_json.write(figures, args.json)
    return 0


def _clips(args: argparse.Namespace) -> int:
    import torch
    from rich.console import Console
    from rich.table import Table

    from vjepa2_ros import plain_json
    from vjepa2_ros.benchmark import clips
    from vjepa2_ros.world_model.checkpoint import choose_computation

    if args.checkpoint is not None or args.save is not None:
        raise ValueError("--clips needs no checkpoint: leave out --checkpoint and --save")
    settings = configuration(args, computation(args)).settings.planner.model
    torch.set_num_threads(args.threads or torch.get_num_threads())
    device, dtype = choose_computation(settings.device, settings.dtype, settings.attention)
    frames = args.frames or clips.FRAMES
    figures = clips.measure(args.clips, frames, device, dtype, args.repeats, settings.attention)
    view = Table(
        title=f"clips on {figures['device']}, {figures['dtype']}, {figures['threads']} thread(s), "
        f"matrix products {figures['matmul_tflops']:.3f} TFLOP/s"
    )
    columns = ("encoder", "frames", "tokens", "parameters", "GFLOP a clip", "s a clip",
               "share of the rate", "peak memory [GiB]")  # fmt: skip
    for column in columns:
        view.add_column(column, justify="right")
    for cost in figures["costs"]:
        view.add_row(
            cost["encoder"],
            str(cost["frames"]),
            str(cost["tokens"]),
            f"{cost['parameters'] / 1e6:.0f} M",
            f"{cost['gflop']:.0f}",
            f"{cost['seconds']:.2f}",
            f"{cost['share']:.0%}",
            f"{cost['peak_memory_gib']:.1f}",
        )
    Console().print(view)
    if args.json is not None:
        plain_json.write(figures, args.json)
    return 0
