# SPDX-License-Identifier: Apache-2.0
"""Figures of a run: energies and true distances over time, and an animation."""

from __future__ import annotations

import math
from collections import Counter
from itertools import groupby, pairwise
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vjepa2_ros.demo.recorded_run import Run
from vjepa2_ros.tasks.outcome import SUCCESS_DISTANCE

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the back end is chosen before)
from matplotlib.axes import Axes  # noqa: E402

FRAME_SECONDS = 0.2
SPEED_WINDOW = 0.1
"""Time over which the speed is measured [s]."""
_FOOTER = 54


def draw_curves(run: Run, path: Path) -> None:
    """Energies with the numbers of the sub-goals above, true distances below."""
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(8, 6), sharex=True, layout="constrained")
    _draw_energies(run, upper)
    times = run.trace.time - run.started
    lower.plot(times, run.subgoal_distances() * 100, label="hand to the sub-goal")
    if run.episode.object is not None:
        lower.plot(times, run.target_distances() * 100, label=f"{run.moved} to its target")
    lower.axhline(
        SUCCESS_DISTANCE * 100, color="green", linestyle="--", label="success distance"
    )
    lower.set_ylabel("true distance [cm]")
    lower.set_xlabel("time since the goal was set [s]")
    lower.set_ylim(bottom=0)
    for axes in (upper, lower):
        for earlier, later in pairwise(run.steps):
            if later.subgoal != earlier.subgoal:
                axes.axvline(later.time - run.started, color="grey", linestyle=":")
        axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_motion(run: Run, path: Path) -> None:
    """Position of the hand with the targets of its commands, and its speed, over simulated time."""
    trace, record = run.trace, run.record
    times = trace.simulated_time - trace.simulated_time[0]
    real = trace.time - trace.time[0]
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(8, 6), sharex=True, layout="constrained")
    begun = [(time, state) for time, state in record.targets if time >= run.started - 1.0]
    at = np.interp([time - trace.time[0] for time, _ in begun], real, times)
    targets = np.array([state[:3] for _, state in begun]).reshape(-1, 3)
    for axis, name in enumerate("xyz"):
        upper.plot(times, trace.hand[:, axis] * 100, color=f"C{axis}", label=name)
        upper.step(at, targets[:, axis] * 100, ":", where="post", color=f"C{axis}")
    upper.plot([], [], ":", color="grey", label="target")
    upper.set_ylabel("hand, base frame [cm]")
    upper.legend(ncols=4)
    window = np.searchsorted(times, times - SPEED_WINDOW)
    moved = np.linalg.norm(trace.hand - trace.hand[window], axis=1)
    spans = np.maximum(times - times[window], 1e-9)
    lower.plot(times, np.where(window < np.arange(len(times)), moved / spans, 0.0) * 100)
    lower.set_ylabel("speed [cm/s]")
    lower.set_xlabel(f"simulated time [s]: {times[-1]:.1f} s in {real[-1]:.1f} s")
    lower.set_ylim(bottom=0)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw_energies(run: Run, axes: Axes) -> None:
    # Energies of different sub-goals are distances to different pictures, so no line joins them.
    for number, group in groupby(run.steps, key=lambda step: step.subgoal):
        steps = list(group)
        times = [step.time - run.started for step in steps]
        axes.plot(times, [step.energy for step in steps], "o-", color="C0")
        # Each step predicts the energy that the next one measures; nothing measures the last one.
        axes.plot(times[1:], [step.predicted_energy for step in steps[:-1]], "v:", color="C1")
        axes.text(times[0], 1.01, f"{number + 1}", transform=axes.get_xaxis_transform())
    axes.plot([], [], "o-", color="C0", label="measured")
    axes.plot([], [], "v:", color="C1", label="predicted a step before")
    axes.set_ylabel("energy: distance of the latents")


def draw_animation(run: Run, path: Path) -> None:
    """Camera images beside the picture of the present sub-goal, as a GIF."""
    frames, due = [], -math.inf
    # Anybody may publish an image; the camera's are the most.
    shape, _ = Counter(image.shape for _, image in run.record.images).most_common(1)[0]
    for time, image in run.record.images:
        if time < run.started - FRAME_SECONDS or time < due or image.shape != shape:
            continue
        due = time + FRAME_SECONDS
        frames.append(_frame(run, time, image))
    # The last frame stays for a while, so that the end can be seen before it starts again.
    durations = [int(FRAME_SECONDS * 1000)] * (len(frames) - 1) + [2000]
    # One palette for all: GIF keeps unchanged pixels of the frame before, with its colours.
    palette = Image.fromarray(np.vstack([frames[0], frames[-1]])).quantize(256)
    images = [
        Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE)
        for frame in frames
    ]
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations, loop=0)


def _frame(run: Run, time: float, image: np.ndarray) -> np.ndarray:
    """Camera image next to the picture, with two lines of text below.

    Args:
        run: of the image.
        time: of the capture [s].
        image: uint8 RGB [size, size, 3].

    Returns:
        uint8 RGB [size + 54, 2 * size, 3].
    """
    size = image.shape[0]
    subgoals = run.episode.subgoals
    number = int(run.subgoals_at(np.array([time]))[0])
    subgoal = subgoals[number]
    picture = cv2.resize(subgoal.image, (size, size), interpolation=cv2.INTER_AREA)
    footer = np.full((_FOOTER, 2 * size, 3), 24, np.uint8)
    frame = Image.fromarray(np.vstack([np.hstack([image, picture]), footer]))
    draw, font = ImageDraw.Draw(frame), ImageFont.load_default(15)
    for where, text in (
        ((8, 6), "camera"),
        ((size + 8, 6), "sub-goal"),
        ((8, size + 7), f"{subgoal.name} ({number + 1} of {len(subgoals)})"),
        ((8, size + 29), _figures(run, time)),
    ):
        draw.text(where, text, "white", font, stroke_width=1, stroke_fill="black")
    return np.asarray(frame)


def _figures(run: Run, time: float) -> str:
    moment = np.searchsorted(run.trace.time, time).clip(0, len(run.trace.time) - 1)
    distance = run.target_distances()[moment] * 100
    seen = [step for step in run.steps if step.time <= time]
    step = f"step {seen[-1].step}   energy {seen[-1].energy:.3f}   " if seen else ""
    elapsed = max(0.0, time - run.started)
    return f"{elapsed:4.1f} s   {step}{run.moved} {distance:.1f} cm from its target"
