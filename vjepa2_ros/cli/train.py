# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros train`: collect data in the simulation and train the small world model."""

import argparse
import json
import sys
from pathlib import Path

from vjepa2_ros.cli.arguments import non_negative_number, positive_integer, seed


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
    parser.add_argument("--seed", type=seed, default=0, help="of data, weights and batches")
    parser.add_argument(
        "--episodes", type=positive_integer, help="episodes of ten frames to record, from 2"
    )
    parser.add_argument(
        "--pretrain-iterations", type=positive_integer, help="steps of the encoder's training"
    )
    parser.add_argument(
        "--predictor-iterations", type=positive_integer, help="steps of the predictor's training"
    )
    parser.add_argument(
        "--state-weight",
        type=non_negative_number,
        help="weight of the robot's own state in pre-training; 0 leaves masked prediction alone",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the recipe and print the card's figures; 2 where folder or settings cannot be used."""
    from vjepa2_ros.training.recipe import RecipeError
    from vjepa2_ros.training.recipe import run as train

    try:
        card = train(chosen_recipe(arguments), arguments.folder, arguments.output)
    except RecipeError as error:
        print(error, file=sys.stderr)
        return 2
    del card["recipe"]
    print(json.dumps(card, indent=1))
    print(f"model in {arguments.output}, loss curves in {arguments.folder}")
    return 0


def chosen_recipe(arguments: argparse.Namespace):
    """The recipe with what the arguments change; RecipeError if that makes no sense."""
    from dataclasses import replace

    from vjepa2_ros.training.recipe import Recipe

    recipe = Recipe(seed=arguments.seed)
    if arguments.episodes is not None:
        recipe = replace(
            recipe, episodes=arguments.episodes, held_out=max(1, arguments.episodes // 20)
        )
    loops = {}
    for name in ("pretrain", "predictor"):
        loop = replace(getattr(recipe, f"{name}_loop"), seed=arguments.seed)
        iterations = getattr(arguments, f"{name}_iterations")
        if iterations is not None:
            loop = replace(loop, iterations=iterations)
        loops[f"{name}_loop"] = loop
    recipe = replace(recipe, **loops)
    if arguments.state_weight is not None:
        recipe = replace(
            recipe, pretrain=replace(recipe.pretrain, state_weight=arguments.state_weight)
        )
    return recipe
