# SPDX-License-Identifier: Apache-2.0
"""What the model imagined before each step of a run, beside what the camera saw after it.

Made after the run, from what was recorded: nothing of it is on the control path.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import matplotlib
import numpy as np
import torch

from vjepa2_ros.demo.recorded_run import Run
from vjepa2_ros.world_model.decoder import PatchDecoder
from vjepa2_ros.world_model.poses import difference
from vjepa2_ros.world_model.world_model import WorldModel

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the back end is chosen before)

MOST = 10
"""Commands of a run that are imagined again; of more, evenly chosen ones."""
_TITLES = ("camera", "imagined next", "true next", "sub-goal")


@dataclass(frozen=True)
class ImaginedStep:
    """One command, as it was imagined and as it went.

    Attributes:
        number: of the command in the run, from 1.
        images: camera, imagined next, true next and sub-goal, each uint8 RGB [size, size, 3].
        error: mean L1 distance of the imagined latent to that of the true next image.
        copied: the same of the latent before the step.
    """

    number: int
    images: tuple[np.ndarray, ...]
    error: float
    copied: float


def imagined_steps(run: Run, model: WorldModel) -> list[ImaginedStep]:
    """Imagine commands of the goal again, from the image and the state they were planned from.

    Args:
        run: with images, states and targets.
        model: with the part "decoder".
    """
    record = run.record
    decoder = cast(PatchDecoder, model.parts["decoder"])
    captured = {time: image for time, image in record.images}
    targets = [
        (time, target)
        for time, target in record.targets
        if time >= run.started and time in captured
    ]
    if not targets or not record.states:
        return []
    times = np.array([time for time, _, _ in record.states])
    # The last one is seen when the robot has come to rest.
    ends = [time for time, _ in targets[1:]] + [record.images[-1][0]]
    steps = []
    chosen = np.linspace(0, len(targets) - 1, min(MOST, len(targets))).astype(int)
    for index in chosen:
        (time, target), end = targets[index], ends[index]
        _, state, commanded = record.states[int(np.abs(times - time).argmin())]
        state = state.copy()
        if model.predictor.config.commanded_gripper:
            state[6] = commanded
        if not np.isfinite(state).all():
            continue
        now, after = torch.from_numpy(state).float(), torch.from_numpy(target).float()
        latent = model.encode(captured[time])
        action = difference(now, after)
        imagined = model.rollout(latent, now, action[None, None])[0]
        true = model.encode(captured[end])
        goal = run.episode.subgoals[int(run.subgoals_at(np.array([time]))[0])]
        images = captured[time], decoder.picture(imagined), captured[end], goal.image
        error, copied = (float((one - true).abs().mean()) for one in (imagined, latent))
        steps.append(ImaginedStep(int(index) + 1, images, error, copied))
    return steps


def draw_imagined(steps: list[ImaginedStep], path: Path) -> None:
    """Draw a row for each step into a PNG."""
    figure, axes = plt.subplots(
        len(steps), len(_TITLES), figsize=(8, 2.1 * len(steps)), squeeze=False
    )
    for row, step in zip(axes, steps, strict=True):
        for axis, title, image in zip(row, _TITLES, step.images, strict=True):
            axis.imshow(image)
            axis.set(xticks=[], yticks=[])
            axis.set_title(title, fontsize=8)
        row[0].set_ylabel(f"command {step.number}", fontsize=8)
        row[1].set_xlabel(f"error {step.error:.3f}, of a copy {step.copied:.3f}", fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)
