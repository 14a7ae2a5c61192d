# SPDX-License-Identifier: Apache-2.0
"""Figures of an evaluation as PNG: energies over the steps, and a contact sheet of failures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

from vjepa2_ros.evaluation.trial import Trial

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the back end is chosen before)
from matplotlib.ticker import MaxNLocator  # noqa: E402

FAILURES = 6
"""Most failures on a contact sheet."""


def draw_energies(trials: Sequence[Trial], path: Path) -> None:
    """Energy over the steps, one line for each sub-goal of a trial, failures in red."""
    figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
    labels = {True: "succeeded", False: "failed"}
    for trial in trials:
        color = "tab:blue" if trial.success else "tab:red"
        steps = np.arange(1, trial.steps + 1)
        # Energies against different pictures are not joined.
        for part in np.split(steps, np.flatnonzero(np.diff(trial.subgoals)) + 1):
            energies = [trial.energies[step - 1] for step in part]
            label = labels.pop(trial.success, None)
            axis.plot(part, energies, ".-", color=color, alpha=0.4, label=label)
    axis.set(xlabel="step", ylabel="energy (latent distance to the sub-goal)", ylim=(0, None))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if any(trial.steps for trial in trials):
        axis.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_failures(trials: Sequence[Trial], path: Path) -> None:
    """Contact sheet of the first failures: start, three moments, end, and the last picture.

    Without a failure nothing is drawn.
    """
    failures = [trial for trial in trials if not trial.success][:FAILURES]
    if not failures:
        return
    titles = ("start", "1/4", "1/2", "3/4", "end", "goal")
    figure, axes = plt.subplots(
        len(failures),
        len(titles),
        figsize=(2 * len(titles), 2.3 * len(failures)),
        squeeze=False,
        layout="constrained",
    )
    for line, trial in zip(axes, failures, strict=True):
        moments = np.linspace(0, len(trial.images) - 1, len(titles) - 1).round().astype(int)
        images = [*(trial.images[moment] for moment in moments), trial.goal_image]
        for axis, title, image in zip(line, titles, images, strict=True):
            axis.imshow(image)
            axis.set(title=title, xticks=[], yticks=[])
        text = f"scene {trial.seed}\n{trial.cause.value}\n{trial.distance * 100:.1f} cm"
        line[0].set_ylabel(text)
    figure.savefig(path, dpi=80)
    plt.close(figure)
