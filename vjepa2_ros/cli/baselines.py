# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros baselines`: fit the policies that the planner is compared with to a model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vjepa2_ros.cli.arguments import positive_integer, seed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="NAME",
        help="model whose latents they are fitted to: a name under models/, a folder or a .pt file",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("runs/train"),
        help="of the model's training by `vjepa2-ros train`, whose recording is used",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the fitted policies (default: baselines.safetensors beside the model)",
    )
    parser.add_argument(
        "--iterations",
        type=positive_integer,
        help="steps of the cloning's training (default: as many as the predictor was trained for)",
    )
    parser.add_argument("--seed", type=seed, default=0, help="of the cloning's weights and batches")
    parser.add_argument(
        "--device", default="auto", help="auto (a GPU if there is one), cpu, cuda or cuda:N"
    )


def run(arguments: argparse.Namespace) -> int:
    """Fit, print the figures, and return the exit code.

    Returns:
        0; 1 if the fitting failed; 2 if model or recording cannot be used; 130 after Ctrl-C.
    """
    import torch

    from vjepa2_ros import plain_json
    from vjepa2_ros.policies.baselines import baselines_path
    from vjepa2_ros.share import model_path
    from vjepa2_ros.training.baselines import fit_baselines
    from vjepa2_ros.world_model.checkpoint import load_world_model

    output = arguments.output or baselines_path(arguments.checkpoint)
    try:
        model = load_world_model(model_path(arguments.checkpoint), arguments.device, "float32")
        figures = fit_baselines(
            model, arguments.folder, output, arguments.iterations, arguments.seed
        )
    except KeyboardInterrupt:
        return _fail("interrupted; the same command resumes", 130)
    except ValueError as error:  # of checkpoint or recording; each says which
        return _fail(str(error), 2)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return _fail(f"cannot fit: {error.strerror or error}{where}", 1)
    except torch.OutOfMemoryError:
        return _fail(f"{arguments.device} is out of memory: choose another --device", 1)
    print(plain_json.dumps(figures), end="")
    print(f"fitted policies in {output}")
    return 0


def _fail(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code
