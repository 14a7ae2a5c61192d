# SPDX-License-Identifier: Apache-2.0
"""The training loop of encoder and predictor: progress, checkpoints, history and loss curves."""

import json
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from vjepa2_ros.training.distributed import average, by_first, is_first

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the back end is chosen before)


@dataclass(frozen=True)
class LoopConfig:
    """Length and learning rate of one training run.

    Attributes:
        iterations: number of optimiser steps.
        learning_rate: peak; linear warm-up, then half a cosine down to 1 % of it.
        warmup: iterations of warm-up.
        weight_decay: of AdamW (0.04 in the paper).
        checkpoint_every: iterations between two checkpoints.
        seed: every batch is drawn from (seed, iteration), so a resumed run sees the same ones.
    """

    iterations: int
    learning_rate: float = 1e-3
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


def _rate(config: LoopConfig, iteration: int) -> float:
    if iteration < config.warmup:
        return config.learning_rate * (iteration + 1) / config.warmup
    progress = (iteration - config.warmup) / max(1, config.iterations - config.warmup)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


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
    optimiser = torch.optim.AdamW(
        [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
    )
    device = trained[0].device.type
    checkpoint, history = folder / f"{name}.pt", folder / f"{name}.jsonl"
    first = 0
    if checkpoint.is_file():
        # Module and optimiser copy it to their own device.
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        module.load_state_dict(saved["module"])
        optimiser.load_state_dict(saved["optimiser"])
        first = saved["iteration"]
    by_first(lambda: _keep_history(history, first))
    records: list[str] = []

    def save(done: int) -> None:
        with history.open("a") as log:
            log.writelines(records)
        state = {
            "module": module.state_dict(),
            "optimiser": optimiser.state_dict(),
            "iteration": done,
        }
        _save(state, checkpoint)

    with tqdm(
        total=config.iterations, initial=first, desc=name, disable=not is_first()
    ) as bar:
        for iteration in range(first, config.iterations):
            progress = iteration / config.iterations
            for group in optimiser.param_groups:
                group["lr"] = _rate(config, iteration)
            with precision(device):
                values = losses(np.random.default_rng([config.seed, iteration]), progress)
            optimiser.zero_grad(set_to_none=True)
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
