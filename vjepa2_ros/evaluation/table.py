# SPDX-License-Identifier: Apache-2.0
"""The table of an evaluation: in Markdown, the same for the same trials, and for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

PAPER = {
    ("reach", None): 100,
    ("grasp", "cup"): 65,
    ("grasp", "box"): 25,
    ("reach_with_object", "cup"): 75,
    ("reach_with_object", "box"): 75,
    ("pick_and_place", "cup"): 80,
    ("pick_and_place", "box"): 65,
}
"""Success of V-JEPA 2-AC on real arms [%], 10 trials in each of two laboratories (arXiv 2506.09985,
table 2); other scenes and, but for reach, three pictures with a planned gripper."""


def markdown(cells: Sequence[dict[str, Any]]) -> str:
    """One line a cell, see `evaluation.summary.summary`; times are left out."""
    lines = [
        "| task | object | policy | pictures | gripper | success | 95 % interval | paper "
        "| median [cm] | worst [cm] | steps | evaluations a step | causes of failure |",
        "|---|---|---|---|---|---|---|---|---:|---:|---:|---:|---|",
    ]
    lines += [_line(cell) for cell in cells]
    return "\n".join(lines) + "\n"


def terminal(cells: Sequence[dict[str, Any]]) -> Table:
    """The columns of `markdown` that matter most, for a terminal."""
    view = Table("task", "success", "95 %", "paper", "median", "s/step", "causes of failure")
    view.columns[0].overflow = "fold"  # names that are cut cannot be told apart
    for cell in cells:
        view.add_row(
            " ".join(part for part in (cell["task"], cell["object"]) if part),
            _successes(cell),
            _interval(cell),
            _paper(cell),
            f"{cell['final_distance_m_median'] * 100:.2f} cm",
            f"{cell['seconds_per_step']:.2f}",
            _causes(cell),
        )
    return view


def _line(cell: dict[str, Any]) -> str:
    return " | ".join(
        (
            f"| {cell['task']}",
            cell["object"] or "–",
            cell["policy"],
            str(cell["pictures"]),
            cell["gripper"],
            _successes(cell),
            _interval(cell),
            _paper(cell),
            f"{cell['final_distance_m_median'] * 100:.2f}",
            f"{cell['final_distance_m_worst'] * 100:.1f}",
            f"{sum(cell['steps']) / cell['played']:.1f}",
            f"{cell['evaluations_per_step']:.0f}",
            f"{_causes(cell)} |",
        )
    )


def _successes(cell: dict[str, Any]) -> str:
    return f"{sum(cell['successes'])} of {cell['played']}"


def _interval(cell: dict[str, Any]) -> str:
    low, high = cell["interval"]
    return f"{low * 100:.0f}–{high * 100:.0f} %"


def _paper(cell: dict[str, Any]) -> str:
    percent = PAPER.get((cell["task"], cell["object"]))
    return f"{percent} %" if percent is not None else "–"


def _causes(cell: dict[str, Any]) -> str:
    return ", ".join(f"{cause} {count}" for cause, count in cell["causes"].items()) or "–"
