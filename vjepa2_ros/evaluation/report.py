# SPDX-License-Identifier: Apache-2.0
"""The results of an evaluation: a table, a JSON file, curves and figures of the episodes."""

from __future__ import annotations

from pathlib import Path

import cv2
import matplotlib
import numpy as np
from rich.table import Table

from vjepa2_ros.evaluation import plain_json
from vjepa2_ros.evaluation.reach import SUCCESS_DISTANCE, ReachResult
from vjepa2_ros.execution.goal_status import GoalState
from vjepa2_ros.settings.declaration import values_of
from vjepa2_ros.settings.stack import StackSettings

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the back end is chosen before)


def summary(
    results: list[ReachResult], seed: int, settings: StackSettings, task: str = "reach"
) -> dict:
    """The figures of an evaluation as plain JSON values; distances in metres, times in seconds.

    Args:
        results: of all episodes, at least one.
        seed: of the evaluation.
        settings: of the nodes.
        task: its name.
    """
    final = [result.distances[-1] for result in results]
    planner = settings.planner
    return {
        "task": task,
        "object": None,
        "episodes": len(results),
        "seed": seed,
        "success_rate": sum(result.reached for result in results) / len(results),
        "success_distance_m": SUCCESS_DISTANCE,
        "final_distance_m": final,
        "final_distance_m_median": float(np.median(final)),
        "final_distance_m_worst": max(final),
        "start_distance_m": [result.distances[0] for result in results],
        "steps": [result.steps for result in results],
        "end": [result.end.name for result in results],
        "stopped_itself": [result.end == GoalState.REACHED for result in results],
        "seconds_per_step": float(np.mean([s for result in results for s in result.step_seconds])),
        "episode_seeds": [result.episode.seed for result in results],
        "clamped": sum(len(result.clamped) for result in results),
        "refused": sum(len(result.refused) for result in results),
        "checkpoint": planner.model.checkpoint,
        "planner": values_of(planner) | {"evaluations": planner.search.chosen.evaluations},
        "controller": values_of(settings.controller),
    }


def table(figures: dict) -> Table:
    """The summary and each episode as a table for the terminal."""
    view = Table(
        title=f"{figures['task']}, {figures['episodes']} episodes, seed {figures['seed']}: "
        f"{figures['success_rate']:.0%} within {figures['success_distance_m'] * 100:.0f} cm, "
        f"median {figures['final_distance_m_median'] * 100:.2f} cm, "
        f"worst {figures['final_distance_m_worst'] * 100:.2f} cm, "
        f"{figures['seconds_per_step']:.2f} s a step",
        caption=f"commands clamped: {figures['clamped']}, refused: {figures['refused']}",
    )
    for column in (
        "episode",
        "scene seed",
        "start [cm]",
        "end [cm]",
        "steps",
        "end of goal",
        "reached",
    ):
        view.add_column(column, justify="right")
    rows = zip(
        figures["episode_seeds"],
        figures["start_distance_m"],
        figures["final_distance_m"],
        figures["steps"],
        figures["end"],
        strict=True,
    )
    for number, (seed, start, end, steps, state) in enumerate(rows, start=1):
        reached = end <= figures["success_distance_m"]
        view.add_row(
            str(number),
            str(seed),
            f"{start * 100:.1f}",
            f"{end * 100:.2f}",
            str(steps),
            state,
            "[green]yes[/]" if reached else "[red]no[/]",
        )
    return view


def write_curves(results: list[ReachResult], path: Path) -> None:
    """Distance and energy over the steps, one line an episode, failures in red, as PNG."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4))
    for result in results:
        style = {"color": "tab:blue" if result.reached else "tab:red", "alpha": 0.4}
        axes[0].plot([100 * distance for distance in result.distances], **style)
        axes[1].plot(result.energies, **style)
    axes[0].axhline(100 * SUCCESS_DISTANCE, color="black", linestyle=":")
    axes[0].set(xlabel="step", ylabel="distance of the hand to the goal pose [cm]", ylim=(0, None))
    axes[1].set(xlabel="step", ylabel="energy (latent distance to the goal)", ylim=(0, None))
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def write_figure(result: ReachResult, path: Path) -> None:
    """Start, end and goal image of one episode next to its curves, as PNG."""
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.6))
    images = (
        ("start", result.images[0]),
        ("end", result.images[-1]),
        ("goal", result.episode.goal_image),
    )
    for axis, (title, image) in zip(axes, images, strict=False):
        axis.imshow(image)
        axis.set(title=title, xticks=[], yticks=[])
    axes[3].plot([100 * distance for distance in result.distances], label="distance [cm]")
    twin = axes[3].twinx()
    twin.plot(result.energies, color="tab:orange", label="energy")
    twin.plot(
        range(1, 1 + len(result.predicted_energies)),
        result.predicted_energies,
        ":",
        color="tab:orange",
        label="predicted",
    )
    axes[3].set(xlabel="step", ylabel="distance [cm]", ylim=(0, None))
    twin.set_ylim(0, None)
    twin.legend(loc="upper right", fontsize=7)
    figure.suptitle(
        f"scene {result.episode.seed}: {result.distances[0] * 100:.1f} cm → "
        f"{result.distances[-1] * 100:.2f} cm in {result.steps} steps"
    )
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def write_overview(results: list[ReachResult], path: Path) -> None:
    """Goal (top) and last image (bottom) of up to ten episodes, the worst first, as PNG."""
    worst = sorted(results, key=lambda result: -result.distances[-1])[:10]
    columns = [np.concatenate([result.episode.goal_image, result.images[-1]]) for result in worst]
    cv2.imwrite(str(path), cv2.cvtColor(np.concatenate(columns, axis=1), cv2.COLOR_RGB2BGR))


def write(results: list[ReachResult], figures: dict, folder: Path, json_path: Path | None) -> None:
    """Write everything into `folder`, and then the figures to `json_path` where one is given."""
    folder.mkdir(parents=True, exist_ok=True)
    text = plain_json.dumps(
        figures
        | {
            "curves": [
                {
                    "seed": result.episode.seed,
                    "distance_m": result.distances,
                    "energy": result.energies,
                    "predicted_energy": result.predicted_energies,
                    "plan_seconds": result.plan_seconds,
                    "clamped": result.clamped,
                    "refused": result.refused,
                    "message": result.message,
                }
                for result in results
            ]
        }
    )
    (folder / f"{figures['task']}.json").write_text(text)
    write_curves(results, folder / "curves.png")
    write_overview(results, folder / "goal_over_end.png")
    for result in results:
        write_figure(result, folder / f"episode_{result.episode.seed}.png")
    if json_path is not None:
        json_path.parent.mkdir(exist_ok=True)
        json_path.write_text(text)
