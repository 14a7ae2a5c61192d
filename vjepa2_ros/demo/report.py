# SPDX-License-Identifier: Apache-2.0
"""Report of a run as a folder: animation, curves, latencies, summary."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from vjepa2_ros import plain_json
from vjepa2_ros.demo.figures import draw_animation, draw_curves, draw_motion
from vjepa2_ros.demo.imagination import draw_imagined, imagined_steps
from vjepa2_ros.demo.recorded_run import Run
from vjepa2_ros.world_model.world_model import WorldModel


def stages(run: Run) -> dict[str, list[float]]:
    """Measured latencies [s] by stage."""
    steps = run.steps
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
    steps = run.steps
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
    steps, end, outcome = run.steps, run.end, run.outcome
    return {
        "goal_id": run.goal_id,
        "task": run.task,
        "object": run.episode.object,
        "success": outcome.success,
        "cause": outcome.cause.value if outcome.cause is not None else None,
        "end": end.state,
        "message": end.message,
        "start_distance_m": float(run.target_distances()[0]),
        "final_distance_m": outcome.distance,
        "steps": len(steps),
        "seconds": end.time - run.started,
        "pictures": [subgoal.name for subgoal in run.episode.subgoals],
        "subgoals": [step.subgoal for step in steps],
        "energies": [step.energy for step in steps],
        "predicted_energies": [step.predicted_energy for step in steps],
        **latencies(run),
        "samples_s": stages(run),
    }


def verdict(figures: dict) -> str:
    """The outcome of a summary in a sentence."""
    end = "success"
    if figures["cause"]:
        end = f"NO success ({'; '.join(filter(None, (figures['cause'], figures['message'])))})"
    steps = "1 step" if figures["steps"] == 1 else f"{figures['steps']} steps"
    return (
        f"{end}: {figures['object'] or 'hand'} {figures['final_distance_m'] * 100:.1f} cm from its "
        f"target in {steps} and {figures['seconds']:.0f} s"
    )


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


def write(run: Run, folder: Path, model: WorldModel | None = None) -> dict:
    """Write all files of the report but the bag.

    Args:
        run: to report on.
        folder: for the files.
        model: of the run, with the part "decoder", for what it imagined; None: without that.

    Returns:
        The summary.
    """
    figures = summary(run)
    plain_json.write(figures, folder / "summary.json")
    plain_json.write(latencies(run), folder / "latency.json")
    (folder / "latency.md").write_text(latency_table(figures))
    draw_curves(run, folder / "energy.png")
    draw_motion(run, folder / "motion.png")
    draw_animation(run, folder / "animation.gif")
    if model is not None and (steps := imagined_steps(run, model)):
        draw_imagined(steps, folder / "imagined.png")
    return figures


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
