# SPDX-License-Identifier: Apache-2.0
"""The table of an evaluation in Markdown; of the same trials, always the same text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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


def _line(cell: dict[str, Any]) -> str:
    low, high = cell["interval"]
    paper = PAPER.get((cell["task"], cell["object"]))
    causes = ", ".join(f"{cause} {count}" for cause, count in cell["causes"].items())
    return " | ".join(
        (
            f"| {cell['task']}",
            cell["object"] or "–",
            cell["policy"],
            str(cell["pictures"]),
            cell["gripper"],
            f"{sum(cell['successes'])} of {cell['played']}",
            f"{low * 100:.0f}–{high * 100:.0f} %",
            f"{paper} %" if paper is not None else "–",
            f"{cell['final_distance_m_median'] * 100:.2f}",
            f"{cell['final_distance_m_worst'] * 100:.1f}",
            f"{sum(cell['steps']) / cell['played']:.1f}",
            f"{cell['evaluations_per_step']:.0f}",
            f"{causes or '–'} |",
        )
    )
