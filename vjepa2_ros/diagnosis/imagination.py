# SPDX-License-Identifier: Apache-2.0
"""What a model imagines after actions, as pictures beside what truly follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import matplotlib
import numpy as np
import torch
from torch import Tensor

from vjepa2_ros.policies.true_dynamics import TrueDynamics
from vjepa2_ros.simulation.simulator import Simulator
from vjepa2_ros.world_model.decoder import PatchDecoder
from vjepa2_ros.world_model.world_model import WorldModel

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the back end is chosen before)


@dataclass(frozen=True)
class Imagined:
    """One action, taken again and again.

    Attributes:
        action: change of x, y, z [m], yaw [rad] and gripper closedness [5].
        pictures: imagined after each step, uint8 RGB [S, S, 3].
        truth: what the camera would see after each step, of the same shape of list; empty where
            the picture is none of the simulated cell.
        errors: mean L1 distance of the imagined latents to those of `truth`.
    """

    action: tuple[float, ...]
    pictures: list[np.ndarray]
    truth: list[np.ndarray]
    errors: list[float]


def imagine(
    model: WorldModel,
    image: np.ndarray,
    state: Tensor,
    actions: Sequence[tuple[float, ...]],
    steps: int,
    cell: Simulator | None = None,
) -> list[Imagined]:
    """Imagine each action from the same picture.

    Args:
        model: with the part "decoder".
        image: uint8 RGB [H, W, 3].
        state: of the robot in it [7].
        actions: changes of x, y, z [m], yaw [rad] and closedness, 5 numbers each.
        steps: how often each is taken, within the model's frames.
        cell: of which `image` was taken, for what truly follows; None: unknown.
    """
    latent = model.encode(image)
    decoder = cast(PatchDecoder, model.parts["decoder"])
    truth, snapshot = None, None
    if cell is not None:
        truth, snapshot = TrueDynamics(model, cell), cell.snapshot()
    found = []
    for action in actions:
        sequence = torch.zeros(steps, 7)
        sequence[:, [0, 1, 2, 5, 6]] = torch.tensor(action)
        predicted = model.rollout(latent, state, sequence[None], every_step=True)[0]
        seen = [] if truth is None else truth.images(snapshot, sequence)
        errors = [
            float((model.encode(picture) - one).abs().mean())
            for picture, one in zip(seen, predicted, strict=False)
        ]
        found.append(Imagined(action, [decoder.picture(one) for one in predicted], seen, errors))
    return found


def draw(image: np.ndarray, imagined: Sequence[Imagined], path: Path) -> None:
    """Draw a row for each action into a PNG: the picture, what is imagined, what truly follows.

    Raises:
        OSError: the file cannot be written.
    """
    rows = sum(2 if one.truth else 1 for one in imagined)
    columns = 1 + len(imagined[0].pictures)
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.2 * columns, 2.3 * rows), squeeze=False
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    row = 0
    for one in imagined:
        x, y, z, yaw, gripper = one.action
        words = [f"{100 * way:+.3g} cm {name}" for name, way in zip("xyz", (x, y, z), strict=True)]
        axes[row, 0].imshow(image)
        axes[row, 0].set_title("camera", fontsize=8)
        axes[row, 0].set_ylabel(
            "\n".join([*words, f"yaw {yaw:+.3g} rad", f"gripper {gripper:+.3g}"]), fontsize=7
        )
        for step, picture in enumerate(one.pictures):
            axes[row, step + 1].imshow(picture)
            error = f", error {one.errors[step]:.3f}" if one.errors else ""
            axes[row, step + 1].set_title(f"imagined {step + 1}{error}", fontsize=8)
        row += 1
        if one.truth:
            axes[row, 0].axis("off")
            for step, picture in enumerate(one.truth):
                axes[row, step + 1].imshow(picture)
                axes[row, step + 1].set_title(f"true {step + 1}", fontsize=8)
            row += 1
    figure.tight_layout()
    try:
        figure.savefig(path, dpi=100)
    finally:
        plt.close(figure)
