# SPDX-License-Identifier: Apache-2.0
"""Report of a run as a folder: animation, curves, latencies, summary."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vjepa2_ros.evaluation import plain_json
from vjepa2_ros.evaluation.record import Progress, Record

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the back end is chosen before)

FRAME_SECONDS = 0.2
_FOOTER = 32


@dataclass(frozen=True)
class Run:
    """One goal from its start to its end, with the ground truth of the simulation.

    Attributes:
        record: of the whole run.
        goal_id: name of the goal.
        goal_image: uint8 RGB [height, width, 3].
        goal_position: true goal of the tool centre point [3] in metres, base frame.
        success_distance: distance [m] within which the goal counts as reached.
    """

    record: Record
    goal_id: str
    goal_image: np.ndarray
    goal_position: np.ndarray
    success_distance: float

    @property
    def started(self) -> float:
        """Time of the first status of the goal [s]."""
        return self.record.of_goal(self.goal_id)[0].time

    @property
    def end(self) -> Progress:
        """The last status of the goal."""
        return self.record.of_goal(self.goal_id)[-1]

    def distances(self) -> tuple[np.ndarray, np.ndarray]:
        """Distances to the true goal over time.

        Returns:
            Times since the start [T] in seconds, and distances [T] in metres.
        """
        since = [(t - self.started, p) for t, p in self.record.positions if t >= self.started - 0.5]
        times = np.array([time for time, _ in since])
        places = np.array([place for _, place in since]).reshape(-1, 3)
        return times, np.linalg.norm(places - self.goal_position, axis=1)


def stages(run: Run) -> dict[str, list[float]]:
    """Measured latencies [s] by stage."""
    steps = run.record.steps(run.goal_id)
    commanded = [step for step in steps if step.command_latency > 0]
    since = run.started
    return {
        "capture -> latent at the planner": [step.observation_age for step in steps],
        "encoder": [step.encode_seconds for step in steps],
        "planner": [step.plan_seconds for step in steps],
        "capture -> command sent": [step.command_latency for step in commanded],
        "of that neither encoder nor planner": [
            step.command_latency - step.encode_seconds - step.plan_seconds for step in commanded
        ],
        "rendering by the simulated camera": [
            taken for time, taken in run.record.renderings if time > since
        ],
        "capture -> command received": [
            received - captured for captured, received in run.record.commands if received > since
        ],
    }


def latencies(run: Run) -> dict:
    """Latencies and rates of a run.

    Returns:
        `latency_ms` by stage as in `quantiles`, and `rate_hz`; NaN for what was not measured.
    """
    steps = run.record.steps(run.goal_id)
    since = run.started
    return {
        "latency_ms": {name: quantiles(values) for name, values in stages(run).items()},
        "rate_hz": {
            "steps": _rate([step.time for step in steps]),
            "images": _rate([time for time, _ in run.record.images if time > since]),
            "latents": _rate([received for _, received in run.record.latents if received > since]),
            "robot states": _rate([time for time, _ in run.record.positions if time > since]),
        },
    }


def summary(run: Run) -> dict:
    """Outcome of the run; distances in metres, NaN for what was not measured."""
    _, distances = run.distances()
    steps = run.record.steps(run.goal_id)
    end = run.end
    return {
        "goal_id": run.goal_id,
        "reached": bool(distances[-1] <= run.success_distance),
        "end": end.state,
        "message": end.message,
        "start_distance_m": float(distances[0]),
        "final_distance_m": float(distances[-1]),
        "success_distance_m": run.success_distance,
        "steps": len(steps),
        "seconds": end.time - run.started,
        "energies": [step.energy for step in steps],
        "predicted_energies": [step.predicted_energy for step in steps],
        **latencies(run),
        "samples_s": stages(run),
    }


def latency_table(figures: dict) -> str:
    """Latencies, and rates where there are any, as Markdown."""
    lines = ["| stage | p50 [ms] | p99 [ms] | worst [ms] | n |", "|---|---:|---:|---:|---:|"]
    for name, values in figures["latency_ms"].items():
        numbers = (_cell(values[key], 1) for key in ("p50", "p99", "worst"))
        lines.append(f"| {name} | {' | '.join(numbers)} | {values['count']} |")
    if "rate_hz" in figures:
        lines += ["", "| rate | Hz |", "|---|---:|"]
        lines += [f"| {name} | {_cell(rate, 2)} |" for name, rate in figures["rate_hz"].items()]
    return "\n".join(lines) + "\n"


def write(run: Run, folder: Path) -> dict:
    """Write all files of the report but the bag.

    Returns:
        The summary.
    """
    figures = summary(run)
    plain_json.write(figures, folder / "summary.json")
    plain_json.write(latencies(run), folder / "latency.json")
    (folder / "latency.md").write_text(latency_table(figures))
    _draw_curves(run, folder / "energy.png")
    _draw_animation(run, folder / "animation.gif")
    return figures


def _draw_curves(run: Run, path: Path) -> None:
    steps = run.record.steps(run.goal_id)
    times = [step.time - run.started for step in steps]
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(8, 6), sharex=True, layout="constrained")
    upper.plot(times, [step.energy for step in steps], "o-", label="measured")
    # Each step predicts the energy that the next one measures; nothing measures that of the last.
    predicted = [step.predicted_energy for step in steps[:-1]]
    upper.plot(times[1:], predicted, "v:", label="predicted a step before")
    upper.set_ylabel("energy: distance of the latents")
    upper.legend()
    moments, distances = run.distances()
    lower.plot(moments, distances * 100)
    lower.axhline(
        run.success_distance * 100, color="green", linestyle="--", label="success distance"
    )
    lower.set_ylabel("true distance to the goal [cm]")
    lower.set_xlabel("time since the goal was set [s]")
    lower.set_ylim(bottom=0)
    lower.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw_animation(run: Run, path: Path) -> None:
    frames, due = [], -math.inf
    for time, image in run.record.images:
        if time < run.started - FRAME_SECONDS or time < due:
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
    """Camera image next to the goal image, with a line of figures below.

    Args:
        run: of the image.
        time: of the capture [s].
        image: uint8 RGB [size, size, 3].

    Returns:
        uint8 RGB [size + 32, 2 * size, 3].
    """
    size = image.shape[0]
    goal = cv2.resize(run.goal_image, (size, size), interpolation=cv2.INTER_AREA)
    footer = np.full((_FOOTER, 2 * size, 3), 24, np.uint8)
    moments, distances = run.distances()
    distance = distances[np.searchsorted(moments, time - run.started).clip(0, len(distances) - 1)]
    seen = [step for step in run.record.steps(run.goal_id) if step.time <= time]
    step = f"step {seen[-1].step}   energy {seen[-1].energy:.3f}   " if seen else ""
    elapsed = max(0.0, time - run.started)
    frame = Image.fromarray(np.vstack([np.hstack([image, goal]), footer]))
    draw, font = ImageDraw.Draw(frame), ImageFont.load_default(15)
    for where, text in (
        ((8, 6), "camera"),
        ((size + 8, 6), "goal"),
        ((8, size + 7), f"{elapsed:4.1f} s   {step}{distance * 100:.1f} cm to go"),
    ):
        draw.text(where, text, "white", font, stroke_width=1, stroke_fill="black")
    return np.asarray(frame)


def quantiles(values: list[float]) -> dict:
    """Quantiles of some times.

    Args:
        values: times [s].

    Returns:
        `p50`, `p99` and `worst` in milliseconds, NaN without a value, and `count`.
    """
    if not values:
        return {"p50": math.nan, "p99": math.nan, "worst": math.nan, "count": 0}
    milliseconds = np.array(values) * 1e3
    return {
        "p50": float(np.percentile(milliseconds, 50)),
        "p99": float(np.percentile(milliseconds, 99)),
        "worst": float(milliseconds.max()),
        "count": len(values),
    }


def _rate(times: list[float]) -> float:
    span = max(times, default=0.0) - min(times, default=0.0)
    return (len(times) - 1) / span if span > 0 else math.nan


def _cell(number: float, digits: int) -> str:
    return f"{number:.{digits}f}" if math.isfinite(number) else "–"
