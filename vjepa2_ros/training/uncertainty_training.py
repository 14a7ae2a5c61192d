# SPDX-License-Identifier: Apache-2.0
"""Training of what tells how far a predictor's predictions may be off.

The predictor stays as it is: its rollouts over the recordings are compared with what followed.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from vjepa2_ros.training.loop import LoopConfig, train
from vjepa2_ros.training.predictor_training import (
    Recorded,
    draw_windows,
    scale_inputs,
    start_as_identity,
)
from vjepa2_ros.world_model.encoder import normalise
from vjepa2_ros.world_model.poses import difference
from vjepa2_ros.world_model.predictor import ActionConditionedPredictor
from vjepa2_ros.world_model.uncertainty import Uncertainty


def new_uncertainty(
    predictor: ActionConditionedPredictor, depth: int, states: np.ndarray
) -> Uncertainty:
    """An untrained one for a predictor, initialised like it, on the CPU.

    Args:
        predictor: whose predictions it is for.
        depth: number of blocks.
        states: of a recording, as the predictor takes them [E, T, 7].

    Raises:
        ValueError: predictor and encoder differ in width.
    """
    config = asdict(replace(predictor.config, depth=depth))
    config["image_size"] = list(config["image_size"])
    uncertainty = Uncertainty(config)
    start_as_identity(uncertainty.network, projection=False)
    scale_inputs(uncertainty.network, states)
    return uncertainty


class _Likelihood(nn.Module):
    """An uncertainty with its loss; the predictor is no part of what is trained."""

    def __init__(self, uncertainty: Uncertainty, predictor: ActionConditionedPredictor) -> None:
        super().__init__()
        self.uncertainty = uncertainty
        self._predictor = (predictor,)

    def losses(self, latents: torch.Tensor, states: torch.Tensor) -> dict[str, torch.Tensor]:
        """Losses over windows of T frames: of all rollouts from the first one.

        Args:
            latents: [B, T, N, D].
            states: [B, T, 7].

        Returns:
            Scalars: "loss", "error", the mean squared error of the predictions, and "correlation"
            of expected and true errors of whole frames.
        """
        actions = difference(states[:, :-1], states[:, 1:])
        given, past = [latents[:, 0]], None
        with torch.no_grad():
            for step in range(actions.shape[1]):
                now = slice(step, step + 1)
                raw, past = self._predictor[0].extend(
                    given[-1], actions[:, now], states[:, now], past=past
                )
                given.append(normalise(raw.float()))
            predicted = torch.stack(given[1:], 1)
            error = (predicted - latents[:, 1:]).square().mean(-1)
        logs, _ = self.uncertainty(torch.cat(given[:-1], 1), actions, states[:, :-1])
        frames = torch.stack([logs.exp().mean(-1).flatten(), error.mean(-1).flatten()])
        return {
            "loss": self.uncertainty.loss(logs, error),
            "error": error.mean(),
            "correlation": frames.detach().corrcoef()[0, 1].nan_to_num(),
        }


def train_uncertainty(
    recordings: Sequence[Recorded],
    uncertainty: Uncertainty,
    predictor: ActionConditionedPredictor,
    batch: int,
    loop: LoopConfig,
    folder: Path,
    window: int,
) -> None:
    """Train an uncertainty from its present weights, in place and on its device.

    Also in several processes (`distributed`).

    Args:
        recordings: all of their episodes are used.
        uncertainty: trained in place.
        predictor: on the same device; it is not changed.
        batch: windows per step.
        loop: length, learning rate and seed.
        folder: for checkpoints, history and loss curves.
        window: frames in a window, at least 2; less where episodes are shorter.
    """
    device = next(uncertainty.parameters()).device
    module = _Likelihood(uncertainty, predictor)
    shares = np.array([recording.share for recording in recordings])

    def losses(random: np.random.Generator, progress: float) -> dict[str, torch.Tensor]:
        # A batch is of one recording: their episodes differ in length.
        recording = recordings[random.choice(len(recordings), p=shares / shares.sum())]
        frames = min(window, recording.states.shape[1])
        return module.losses(*draw_windows([recording], batch, frames, random, device))

    train("uncertainty", module, losses, loop, folder)
    uncertainty.eval()
