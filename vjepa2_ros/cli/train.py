# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros train`: train a world model in simulation, or fine-tune an existing one."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vjepa2_ros.cli.arguments import (
    non_negative_number,
    positive_integer,
    positive_number,
    seed,
    whole_number,
)

if TYPE_CHECKING:
    import torch

    from vjepa2_ros.settings.stack import StackSettings
    from vjepa2_ros.training.recipe import Recipe

RECIPE_NAMES = ("small", "base")
"""Those of `RECIPES`, which need torch."""
_ONLY_FROM_NOTHING = ("recipe", "state_weight", "approaches")
_ONLY_FINE_TUNING = ("recording", "batch", "learning_rate")
_NOT_A_PROBE = ("recording", "pretrain_iterations", "predictor_iterations")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "--recipe",
        choices=RECIPE_NAMES,
        help="size of model, recording and training: small (the default), or base, for a GPU",
    )
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
        "--device", default="auto", help="auto (a GPU if there is one), cpu, cuda or cuda:N"
    )
    parser.add_argument(
        "--config",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="parameter file, of which workspace and max_translation are used (may be repeated)",
    )
    parser.add_argument(
        "--from",
        dest="start",
        metavar="CHECKPOINT",
        help="fine-tune the predictor of this model (a name under models/, a folder or a .pt "
        "file) instead of training from nothing; the encoder stays as it is without "
        "--pretrain-iterations",
    )
    parser.add_argument(
        "--probe",
        action="store_true",
        help="with --from: train the probe that tells whether a sub-goal is reached, on play "
        "recorded in simulation; the model stays as it is",
    )
    parser.add_argument(
        "--probe-iterations", type=positive_integer, help="steps of the probe's training"
    )
    parser.add_argument(
        "--recording",
        type=Path,
        metavar="DIR",
        help="with --from: fine-tune on this recording instead of one made in simulation",
    )
    parser.add_argument(
        "--batch", type=positive_integer, help="with --from: windows (with --probe: pairs of "
        "frames) per step; fewer take less memory"
    )  # fmt: skip
    parser.add_argument(
        "--episodes", type=positive_integer, help="episodes to record, at least 2"
    )
    parser.add_argument(
        "--pretrain-iterations", type=positive_integer, help="steps of the encoder's training"
    )
    parser.add_argument(
        "--predictor-iterations", type=positive_integer, help="steps of the predictor's training"
    )
    parser.add_argument(
        "--approaches",
        type=whole_number,
        metavar="EPISODES",
        help="episodes of short approaches to objects, from which the uncertainty of predictions "
        "is learned beside the recording; 0: none",
    )
    parser.add_argument(
        "--learning-rate",
        type=positive_number,
        help="with --from: peak of the learning rate (default: a tenth of that from nothing, and "
        "0.001 with --probe)",
    )
    parser.add_argument(
        "--state-weight",
        type=non_negative_number,
        help="weight of the robot's own state in pre-training; 0 disables it",
    )


def run(arguments: argparse.Namespace) -> int:
    """Train, print the card's figures, and return the exit code.

    Returns:
        0; 1 if the training failed; 2 if settings or files cannot be used; 130 after Ctrl-C.
    """
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command resumes the training", 130)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return _fail(f"cannot train: {error.strerror or error}{where}", 1)
    except BrokenProcessPool:
        return _fail(
            "cannot train: a process that records was killed; free memory and disk, then resume "
            "with the same command",
            1,
        )


def _run(arguments: argparse.Namespace) -> int:
    import torch

    from vjepa2_ros import plain_json
    from vjepa2_ros.settings.files import resolve
    from vjepa2_ros.training.distributed import FirstProcessError, is_first, processes
    from vjepa2_ros.world_model.checkpoint import choose_computation

    try:
        _check_combination(arguments)
        settings = resolve(arguments.config).settings
        device, _ = choose_computation(arguments.device, "float32", "sdpa")
        work = _train if arguments.start is None else _fine_tune
        if arguments.probe:
            work = _train_probe
        with processes(device) as own_device:
            card = work(arguments, settings, own_device)
            if is_first():
                print(plain_json.dumps(card), end="")
                print(f"model in {arguments.output}, loss curves in {arguments.folder}")
    except ValueError as error:  # of settings, checkpoint, recording or recipe; each says which
        return _fail(str(error), 2)
    except FirstProcessError:
        return 1
    except torch.OutOfMemoryError:
        return _fail(f"{device} is out of memory: lower --batch, or choose another --device", 1)
    return 0


def _fail(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code


def _check_combination(arguments: argparse.Namespace) -> None:
    """Raise ValueError for options that have no effect together."""
    fine_tuning = arguments.start is not None
    without_effect = [
        "--" + name.replace("_", "-")
        for name in (_ONLY_FROM_NOTHING if fine_tuning else _ONLY_FINE_TUNING)
        if getattr(arguments, name) is not None
    ]
    if arguments.probe and not fine_tuning:
        raise ValueError("--probe needs --from, the model whose latents it reads")
    if arguments.probe_iterations is not None and not arguments.probe:
        raise ValueError("--probe-iterations cannot be used without --probe")
    if arguments.probe:
        useless = [name for name in _NOT_A_PROBE if getattr(arguments, name) is not None]
        if useless:
            names = ", ".join("--" + name.replace("_", "-") for name in useless)
            raise ValueError(f"{names} cannot be used with --probe")
    if arguments.recording is not None and arguments.episodes is not None:
        without_effect.append("--episodes")
    if without_effect:
        beside = "with" if fine_tuning else "without"
        raise ValueError(f"{', '.join(without_effect)} cannot be used {beside} --from")


def _train(arguments: argparse.Namespace, settings: StackSettings, device: torch.device) -> dict:
    from vjepa2_ros.training.recipe import run as train

    recipe = chosen_recipe(arguments, settings)
    card = train(
        recipe,
        arguments.folder,
        arguments.output,
        device=device,
        name=arguments.recipe or RECIPE_NAMES[0],
    )
    return {name: value for name, value in card.items() if name != "recipe"}


def chosen_recipe(arguments: argparse.Namespace, settings: StackSettings) -> Recipe:
    """The recipe that the arguments name, with what arguments and settings change.

    Raises:
        RecipeError: it is invalid.
    """
    from vjepa2_ros.training.recipe import RECIPES

    recipe = replace(
        RECIPES[arguments.recipe or RECIPE_NAMES[0]],
        seed=arguments.seed,
        workspace=settings.simulator.workspace,
        max_translation=settings.planner.action.max_translation,
    )
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
    loops["uncertainty_loop"] = replace(recipe.uncertainty_loop, seed=arguments.seed)
    recipe = replace(recipe, **loops)
    if arguments.approaches is not None:
        recipe = replace(recipe, approaches=arguments.approaches)
    if arguments.state_weight is not None:
        recipe = replace(
            recipe, pretrain=replace(recipe.pretrain, state_weight=arguments.state_weight)
        )
    return recipe


def _start(arguments: argparse.Namespace) -> Path:
    """Where the model of --from is; ValueError if it would be replaced."""
    from vjepa2_ros.share import model_path

    start = model_path(arguments.start)
    if arguments.output.resolve() == start.resolve():
        raise ValueError(f"--output {arguments.output} would replace the model of --from")
    return start


def _train_probe(
    arguments: argparse.Namespace, settings: StackSettings, device: torch.device
) -> dict:
    from vjepa2_ros.training.success_training import SuccessTraining, train_success
    from vjepa2_ros.world_model.checkpoint import load_world_model

    start = _start(arguments)
    model = load_world_model(start, str(device), "float32", parts=None)
    chosen = SuccessTraining(
        start=model.fingerprint,
        workspace=settings.simulator.workspace,
        max_translation=settings.planner.action.max_translation,
    )
    loop = replace(chosen.loop, seed=arguments.seed)
    if arguments.learning_rate is not None:
        loop = replace(loop, learning_rate=arguments.learning_rate)
    if arguments.probe_iterations is not None:
        loop = replace(loop, iterations=arguments.probe_iterations)
    given = {"episodes": arguments.episodes, "batch": arguments.batch}
    changes = {name: value for name, value in given.items() if value is not None}
    chosen = replace(chosen, loop=loop, **changes)
    card = train_success(model, start, chosen, arguments.folder, arguments.output)
    return {name: value for name, value in card.items() if name != "success_training"}


def _fine_tune(
    arguments: argparse.Namespace, settings: StackSettings, device: torch.device
) -> dict:
    from vjepa2_ros.training.fine_tuning import FineTuning, fine_tune
    from vjepa2_ros.world_model.checkpoint import load_world_model

    start = _start(arguments)
    model = load_world_model(start, str(device), "float32")
    chosen = FineTuning(
        start=model.fingerprint,
        workspace=settings.simulator.workspace,
        max_translation=settings.planner.action.max_translation,
    )
    common = {"seed": arguments.seed}
    if arguments.learning_rate is not None:
        common["learning_rate"] = arguments.learning_rate
    loop, pretrain_loop = replace(chosen.loop, **common), replace(chosen.pretrain_loop, **common)
    if arguments.predictor_iterations is not None:
        loop = replace(loop, iterations=arguments.predictor_iterations)
    if arguments.pretrain_iterations is not None:
        pretrain_loop = replace(pretrain_loop, iterations=arguments.pretrain_iterations)
    given = {
        "episodes": arguments.episodes,
        "batch": arguments.batch,
        "recording": arguments.recording and str(arguments.recording.resolve()),
    }
    changes = {name: value for name, value in given.items() if value is not None}
    chosen = replace(chosen, loop=loop, pretrain_loop=pretrain_loop, **changes)
    card = fine_tune(model, chosen, arguments.folder, arguments.output)
    return {name: value for name, value in card.items() if name != "fine_tuning"}
