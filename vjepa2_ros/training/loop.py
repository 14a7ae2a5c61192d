# SPDX-License-Identifier: Apache-2.0
"""The training loop of encoder and predictor: progress, checkpoints, history and loss curves."""

import json
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import matplotlib
import numpy as np
import torch
from torch import nn
from tqdm import tqdm
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2Layer

from vjepa2_ros.training.distributed import average, by_first, is_first
from vjepa2_ros.world_model.predictor import Block

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the back end is chosen before)


@dataclass(frozen=True)
class LoopConfig:
    """Length and learning rate of one training run.

    Attributes:
        iterations: number of optimiser steps.
        learning_rate: peak; linear warm-up, then half a cosine down to 1 % of it.
        matrix_learning_rate: of Muon, as `learning_rate`. Muon trains the matrices inside the
            transformer blocks, AdamW everything else; None: AdamW trains these as well.
        warmup: iterations of warm-up.
        weight_decay: of matrices (0.04 in the paper).
        checkpoint_every: iterations between two checkpoints.
        seed: every batch is drawn from (seed, iteration), so a resumed run sees the same ones.
    """

    iterations: int
    learning_rate: float = 1e-3
    matrix_learning_rate: float | None = None
    warmup: int = 100
    weight_decay: float = 0.04
    checkpoint_every: int = 200
    seed: int = 0


class DivergedError(ValueError):
    """A loss that is no number any more; the checkpoint is from before."""


def precision(device: str) -> AbstractContextManager:
    """Context in which layers calculate in bfloat16 where a type of device has it in hardware."""
    if device == "cpu":
        capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # absent before torch 2.11
        fast = capabilities.get("avx512_bf16", False)
    else:
        fast = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device, torch.bfloat16) if fast else nullcontext()


def _schedule(config: LoopConfig, iteration: int) -> float:
    """Learning rate relative to its peak."""
    if iteration < config.warmup:
        return (iteration + 1) / config.warmup
    progress = (iteration - config.warmup) / max(1, config.iterations - config.warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))


def _optimisers(module: nn.Module, config: LoopConfig) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon if it has a learning rate.

    Muon (https://kellerjordan.github.io/posts/muon) takes steps of orthogonalised momentum. It is
    made for matrices between hidden layers; its steps are scaled to the length of AdamW's.
    """
    matrices, others = [], []
    within = {
        id(weight)
        for part in module.modules()
        if isinstance(part, Block | VJEPA2Layer)
        for weight in part.parameters()
        if weight.ndim == 2 and config.matrix_learning_rate is not None
    }
    for weight in module.parameters():
        if weight.requires_grad:
            (matrices if id(weight) in within else others).append(weight)
    decay = config.weight_decay
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            [
                {"params": [w for w in others if w.ndim > 1], "weight_decay": decay},
                {"params": [w for w in others if w.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            betas=(0.9, 0.98),
        )
    ]
    if config.matrix_learning_rate is not None:
        optimisers.append(
            torch.optim.Muon(
                matrices,
                lr=config.matrix_learning_rate,
                weight_decay=decay,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["peak"] = group["lr"]
    return optimisers


def train(
    name: str,
    module: nn.Module,
    losses: Callable[[np.random.Generator, float], dict[str, torch.Tensor]],
    config: LoopConfig,
    folder: Path,
    after_step: Callable[[float], None] = lambda progress: None,
) -> None:
    """Minimise `losses(random, progress)["loss"]` over the parameters that require gradients.

    Layers calculate in bfloat16 where the device has it (`torch.autocast`); weights are float32.

    A run that was interrupted resumes from its last checkpoint, also on another device or in
    another number of processes. Each of several processes calls this with the same weights and the
    losses of its share of each batch; gradients and losses are averaged, and the first process
    writes the files.

    Args:
        name: of the files `<name>.pt`, `<name>.jsonl` and `<name>.png` in `folder`, and of the bar.
        module: trained in place, on the device where it is; a checkpoint holds its whole state.
        losses: draws a batch with the generator and returns scalars; "loss" is the one minimised.
        config: length, learning rate and seed.
        folder: made if it does not exist.
        after_step: called after each step with the progress from 0 to 1 (for an EMA).

    Raises:
        DivergedError: the loss is not finite.
        FirstProcessError: the first of several processes cannot write a file.
        OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimisers = _optimisers(module, config)
    device = trained[0].device.type
    checkpoint, history = folder / f"{name}.pt", folder / f"{name}.jsonl"
    first = 0
    if checkpoint.is_file():
        # Module and optimisers copy it to their own device.
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        module.load_state_dict(saved["module"])
        for optimiser, state in zip(optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        first = saved["iteration"]
    by_first(lambda: _keep_history(history, first))
    records: list[str] = []

    def save(done: int) -> None:
        with history.open("a") as log:
            log.writelines(records)
        state = {
            "module": module.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in optimisers],
            "iteration": done,
        }
        _save(state, checkpoint)

    with tqdm(
        total=config.iterations, initial=first, desc=name, disable=not is_first()
    ) as bar:
        for iteration in range(first, config.iterations):
            progress = iteration / config.iterations
            relative = _schedule(config, iteration)
            for group in chain.from_iterable(each.param_groups for each in optimisers):
                group["lr"] = group["peak"] * relative
            with precision(device):
                values = losses(np.random.default_rng([config.seed, iteration]), progress)
            module.zero_grad(set_to_none=True)
            values["loss"].backward()
            means = {key: value.detach() for key, value in values.items()}
            if not means["loss"].isfinite():
                raise DivergedError(
                    f"the training of the {name} diverged at iteration {iteration}: its loss is "
                    f"{float(means['loss'])}. Check the recording, or lower the learning rate"
                )
            gradients = [p.grad for p in trained if p.grad is not None]
            average([*gradients, *means.values()])
            nn.utils.clip_grad_norm_(trained, 1.0)
            for optimiser in optimisers:
                optimiser.step()
            after_step(progress)
            record = {key: round(float(value), 6) for key, value in means.items()}
            records.append(json.dumps(record) + "\n")
            bar.update()
            bar.set_postfix({key: f"{value:.3f}" for key, value in record.items()}, refresh=False)
            done = iteration + 1
            if done % config.checkpoint_every == 0 or done == config.iterations:
                by_first(partial(save, done))
                records.clear()
    by_first(lambda: plot(name, history, folder / f"{name}.png"))


def _keep_history(history: Path, iterations: int) -> None:
    """Leave only the records of the iterations that the checkpoint has seen."""
    kept = history.read_text().splitlines(keepends=True)[:iterations] if iterations else []
    history.write_text("".join(kept))


def _save(state: dict, path: Path) -> None:
    """Replace a checkpoint at once, or raise OSError and leave the old one."""
    part = path.with_suffix(".part")
    try:
        torch.save(state, part)
    except RuntimeError as error:  # how torch reports a full disk
        part.unlink(missing_ok=True)
        raise OSError(f"cannot write {path} (is the disk full?)") from error
    part.replace(path)


def plot(name: str, history: Path, image: Path) -> None:
    """Draw every column of a history file over the iterations, smoothed, into a PNG."""
    records = [json.loads(line) for line in history.read_text().splitlines()]
    if not records:
        return
    keys = list(records[0])
    width = max(1, len(records) // 100)
    figure, axes = plt.subplots(1, len(keys), figsize=(4 * len(keys), 3), squeeze=False)
    for axis, key in zip(axes[0], keys, strict=True):
        values = np.array([record[key] for record in records])
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        axis.plot(values, alpha=0.25)
        axis.plot(np.arange(len(smooth)) + width / 2, smooth)
        axis.set(
            title=f"{name}: {key}",
            xlabel="iteration",
            yscale="log" if (values > 0).all() else "linear",
        )
    figure.tight_layout()
    figure.savefig(image, dpi=100)
    plt.close(figure)
