# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros bench model`: time and memory of the networks against their floor."""

from __future__ import annotations

import argparse
from pathlib import Path

from vjepa2_ros.cli.arguments import positive_integer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the benchmark."""
    parser.add_argument(
        "--checkpoint",
        help="model (default: the planner's parameter file), or `published`: the geometry of "
        "vjepa2-ac-vitg with random weights",
    )
    parser.add_argument(
        "--save",
        type=Path,
        metavar="DIR",
        help="with `published`: write the random model as a folder that the nodes can load",
    )
    parser.add_argument("--batches", nargs="+", type=positive_integer, default=[1, 64])
    parser.add_argument("--repeats", type=positive_integer, default=5)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16")
    parser.add_argument("--threads", type=positive_integer, help="threads of PyTorch on the CPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")


def run(args: argparse.Namespace) -> int:
    """Print what encoder and predictor cost here."""
    import torch
    from rich.console import Console
    from rich.table import Table

    from vjepa2_ros.benchmark import model as benchmark
    from vjepa2_ros.evaluation import plain_json
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
        plain_json.write(figures, args.json)
    return 0
