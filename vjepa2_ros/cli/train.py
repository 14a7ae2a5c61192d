# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros train`: collect data in the simulation and train the small world model."""

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("runs/train"),
        help="recording, checkpoints and loss curves; a second call resumes what is there",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("runs/train/model"), help="the finished model"
    )
    parser.add_argument("--seed", type=int, default=0, help="of data, weights and batches")
    parser.add_argument("--episodes", type=int, help="episodes of ten frames to record")
    parser.add_argument("--pretrain-iterations", type=int, help="steps of the encoder's training")
    parser.add_argument(
        "--predictor-iterations", type=int, help="steps of the predictor's training"
    )
    parser.add_argument(
        "--state-weight",
        type=float,
        help="weight of the robot's own state in pre-training; 0 leaves masked prediction alone",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the recipe and print the card's figures."""
    from dataclasses import replace

    from vjepa2_ros.training.recipe import Recipe
    from vjepa2_ros.training.recipe import run as train

    recipe = Recipe(seed=arguments.seed)
    if arguments.episodes is not None:
        recipe = replace(
            recipe, episodes=arguments.episodes, held_out=max(1, arguments.episodes // 20)
        )
    loops = {}
    for name in ("pretrain", "predictor"):
        loop = getattr(recipe, f"{name}_loop")
        iterations = getattr(arguments, f"{name}_iterations") or loop.iterations
        loops[f"{name}_loop"] = replace(loop, iterations=iterations, seed=arguments.seed)
    recipe = replace(recipe, **loops)
    if arguments.state_weight is not None:
        recipe = replace(
            recipe, pretrain=replace(recipe.pretrain, state_weight=arguments.state_weight)
        )
    card = train(recipe, arguments.folder, arguments.output)
    del card["recipe"]
    print(json.dumps(card, indent=1))
    print(f"model in {arguments.output}, loss curves in {arguments.folder}")
    return 0
