# SPDX-License-Identifier: Apache-2.0
"""The figures of an evaluation as plain JSON values, and shards merged into the whole."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from vjepa2_ros.evaluation import MOST_SHARDS, table
from vjepa2_ros.evaluation.run import Evaluation
from vjepa2_ros.evaluation.trial import Trial
from vjepa2_ros.execution.goal_status import GoalState
from vjepa2_ros.policies import FITTED
from vjepa2_ros.policies.baselines import baselines_path
from vjepa2_ros.settings.declaration import values_of
from vjepa2_ros.tasks import load_task
from vjepa2_ros.tasks.outcome import Outcome
from vjepa2_ros.tasks.task import scene_seeds

CONDITIONS = (
    "task",
    "object",
    "episodes",
    "seed",
    "policy",
    "pictures",
    "gripper",
    "box_yaw",
    "most_steps",
    "checkpoint",
    "fingerprint",
    "baselines",
    "planner",
    "controller",
    "encoder",
    "simulator",
)
"""Names of what a cell is evaluated with; everything else in it came out."""


class MergeError(ValueError):
    """Reports that cannot be merged; the text says why."""


def row(trial: Trial) -> dict[str, Any]:
    """One trial as plain JSON values; distances in metres, times in seconds."""
    return {
        "scene": trial.seed,
        "success": trial.success,
        "cause": trial.cause.value if trial.cause is not None else None,
        "distance_m": trial.distance,
        "steps": trial.steps,
        "subgoals": trial.subgoals,
        "energies": trial.energies,
        "predicted_energies": trial.predicted_energies,
        "evaluations": trial.evaluations,
        "hand_m": trial.hands.tolist(),
        "clamped": trial.clamped,
        "refused": trial.refused,
        "end": trial.end.name,
        "stopped_itself": trial.end == GoalState.REACHED,
        "message": trial.message,
        "plan_seconds": trial.plan_seconds,
        "step_seconds": trial.step_seconds,
    }


def conditions(evaluation: Evaluation) -> dict[str, Any]:
    """What a cell was evaluated with."""
    planner, task = evaluation.settings.planner, load_task(evaluation.task)
    values = (
        evaluation.task,
        evaluation.options.object,
        evaluation.episodes,
        evaluation.seed,
        evaluation.policy,
        # A task with a single picture has it in either protocol.
        getattr(task, "pictures", evaluation.options.pictures),
        getattr(task, "gripper", evaluation.options.gripper),
        evaluation.box_yaw,
        evaluation.most_steps,
        planner.model.checkpoint,
        evaluation.fingerprint,
        _baselines_hash(evaluation),
        values_of(planner) | {"evaluations": planner.search.chosen.evaluations},
        values_of(evaluation.settings.controller),
        values_of(evaluation.settings.encoder),
        values_of(evaluation.settings.simulator),
    )
    return dict(zip(CONDITIONS, values, strict=True))


def _baselines_hash(evaluation: Evaluation) -> str | None:
    """SHA-256 of the file of fitted policies, None where the policy is not fitted."""
    if evaluation.policy not in FITTED:
        return None
    checkpoint = evaluation.settings.planner.model.checkpoint
    return sha256((evaluation.baselines or baselines_path(checkpoint)).read_bytes()).hexdigest()


def summary(conditions: dict[str, Any], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of a cell: its conditions, what came out, and its rows in the order of scenes.

    Args:
        conditions: see `conditions`.
        rows: at least one, see `row`.
    """
    rows = sorted(rows, key=lambda row: row["scene"])
    successes = [row["success"] for row in rows]
    distances = [row["distance_m"] for row in rows]
    causes = Counter(row["cause"] for row in rows if row["cause"] is not None)
    seconds = [second for row in rows for second in row["step_seconds"]]
    evaluations = [count for row in rows for count in row["evaluations"]]
    return {
        **conditions,
        "played": len(rows),
        "success_rate": sum(successes) / len(rows),
        "interval": list(interval(sum(successes), len(rows))),
        "successes": successes,
        "causes": dict(sorted(causes.items())),
        "final_distance_m": distances,
        "final_distance_m_median": float(np.median(distances)),
        "final_distance_m_worst": max(distances),
        "steps": [row["steps"] for row in rows],
        "evaluations_per_step": float(np.mean(evaluations)) if evaluations else 0.0,
        "clamped": sum(len(row["clamped"]) for row in rows),
        "refused": sum(len(row["refused"]) for row in rows),
        "seconds_per_step": float(np.mean(seconds)) if seconds else 0.0,
        "rows": rows,
    }


def interval(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a success rate."""
    low, high = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return float(low), float(high)


def report(cells: Sequence[dict[str, Any]], shard: tuple[int, int]) -> dict[str, Any]:
    """What the JSON file of an evaluation holds: one cell as it is, several in a list.

    Args:
        cells: see `summary`.
        shard: number from 1, and number of shards.
    """
    part = {"shard": list(shard)} if shard != (1, 1) else {}
    return {**part, **cells[0]} if len(cells) == 1 else {**part, "cells": list(cells)}


def cells_of(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells of a report."""
    return report.get("cells", [report])


def merge(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The cells of the whole from the reports of all of its shards.

    Raises:
        MergeError: a file cannot be read or is no report, or the shards are not those of one
            evaluation.
    """
    reports = [_read(path) for path in paths]
    parts = {report["shard"][1] for report in reports}
    if len(parts) != 1:
        raise MergeError(f"the files are shards of {sorted(parts)}: give those of one evaluation")
    count = parts.pop()
    found = Counter(report["shard"][0] for report in reports)
    missing = sorted(set(range(1, count + 1)) - set(found))
    twice = sorted(part for part, times in found.items() if times > 1)
    if missing or twice:
        text = [f"shard {part}/{count} is missing" for part in missing]
        text += [f"shard {part}/{count} was given twice" for part in twice]
        raise MergeError(", ".join(text))
    cells = [cells_of(report) for report in reports]
    if not cells[0]:
        raise MergeError(f"{paths[0]} holds no result")
    wanted = [_conditions(cell) for cell in cells[0]]
    for path, others in zip(paths, cells, strict=True):
        if [_conditions(cell) for cell in others] != wanted:
            raise MergeError(f"{path} was evaluated with other settings than {paths[0]}")
    whole = [
        summary(condition, [row for cell in column for row in cell["rows"]])
        for condition, column in zip(wanted, zip(*cells, strict=True), strict=True)
    ]
    for cell in whole:
        scenes = [row["scene"] for row in cell["rows"]]
        if scenes != scene_seeds(cell["seed"], cell["episodes"]):
            raise MergeError(
                f"{cell['task']}: the files hold {len(scenes)} trials that are not the "
                f"{cell['episodes']} of seed {cell['seed']}"
            )
    return whole


def _conditions(cell: dict[str, Any]) -> dict[str, Any]:
    return {name: cell[name] for name in CONDITIONS}


def _read(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file():
            raise MergeError(f"{path} cannot be read: it is no file")
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise MergeError(f"{path} cannot be read: {reason}") from error
    try:
        report = json.loads(text)
        part, count = report["shard"]
        if not (type(part) is type(count) is int and 1 <= part <= count <= MOST_SHARDS):
            raise ValueError(f"{part} of {count}")
        for cell in cells_of(report):
            for row in cell["rows"]:
                Outcome(row["success"], row["distance_m"], row["cause"])
            table.markdown([summary(_conditions(cell), cell["rows"])]).encode()
    except Exception as error:  # whatever a file that holds anything at all leads to
        raise MergeError(
            f"{path} is not the report of a shard: give files that --shard with --json wrote"
        ) from error
    return report
