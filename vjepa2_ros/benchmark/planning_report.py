# SPDX-License-Identifier: Apache-2.0
"""The rows of the planning benchmark as a table, as Markdown and as a figure."""

from collections.abc import Callable
from pathlib import Path

import matplotlib
from matplotlib.ticker import NullFormatter
from rich.table import Table

from vjepa2_ros import plain_json

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the back end is chosen before)

_COLUMNS: tuple[tuple[str, str, Callable[..., str]], ...] = (
    ("planner", "planner", str),
    ("evaluations", "evaluations", str),
    ("energy_ratio_median", "energy", "{:.4f}".format),
    ("energy_ratio_p90", "p90", "{:.4f}".format),
    ("energy_ratio_worst", "worst", "{:.3f}".format),
    ("action_error_m_median", "error [cm]", lambda metres: f"{metres * 100:.2f}"),
    ("gripper_right", "gripper", "{:.0%}".format),
    ("success_rate", "reached", "{:.0%}".format),
    ("final_distance_m_median", "end [cm]", lambda metres: f"{metres * 100:.2f}"),
    ("seconds_median", "time [s]", "{:.3f}".format),
    ("gflop", "GFLOP", "{:.3g}".format),
    ("contact_energy_ratio_median", "energy at contact", "{:.3f}".format),
    ("contact_success_rate", "success at contact", "{:.0%}".format),
)


def write(rows: list[dict], folder: Path) -> None:
    """planning.json, planning.md and planning.png in a folder that is made where it is none."""
    plain_json.write(rows, folder / "planning.json")
    (folder / "planning.md").write_text(markdown(rows))
    write_figure(rows, folder / "planning.png")


def table(rows: list[dict]) -> Table:
    """For the terminal; the default planner is marked."""
    view = Table(
        title="energy: median and 90th percentile, relative to cem 800 × 10 on the same decisions; "
        "error: of the action against the best; gripper: as it should be; "
        "reached, end: of the closed loop; at contact: of plans that were carried out"
    )
    for _, title, _ in _COLUMNS:
        view.add_column(title, justify="right")
    for row in rows:
        view.add_row(*_cells(row), style="bold" if row["default"] else None)
    return view


def markdown(rows: list[dict]) -> str:
    """The same as a Markdown table."""
    lines = [
        "| " + " | ".join(title for _, title, _ in _COLUMNS) + " |",
        "|---" + "|---:" * (len(_COLUMNS) - 1) + "|",
    ]
    for row in rows:
        mark = "**" if row["default"] else ""
        lines.append("| " + " | ".join(f"{mark}{cell}{mark}" for cell in _cells(row)) + " |")
    return "\n".join(lines) + "\n"


def write_figure(rows: list[dict], path: Path) -> None:
    """Energies, errors and successes over evaluations and operations, as PNG."""
    panels = (
        ("energy_ratio_median", "energy relative to 800 × 10, median", 1.0),
        ("energy_ratio_p90", "the same, 90th percentile", 1.0),
        ("action_error_m_median", "error of the action [cm], median", 100.0),
        ("final_distance_m_median", "end of the closed loop [cm], median", 100.0),
        ("contact_energy_ratio_median", "energy at contact, relative, median", 1.0),
        ("contact_success_rate", "plans that succeed at contact", 1.0),
    )
    shown = [panel for panel in panels if any(row[panel[0]] is not None for row in rows)]
    figure, axes = plt.subplots(1, len(shown), figsize=(4.6 * len(shown), 3.8), squeeze=False)
    for axis, (key, title, scale) in zip(axes[0], shown, strict=True):
        for planner in dict.fromkeys(row["planner"] for row in rows):
            curve = sorted(
                (row["evaluations"], scale * row[key])
                for row in rows
                if row["planner"] == planner and row[key] is not None
            )
            if curve:
                axis.plot(*zip(*curve, strict=True), "o-", label=planner)
        axis.set(xscale="log", xlabel="evaluations", title=title)
        if "energy" in key:
            axis.axhline(1.0, color="black", linestyle=":")
        if key == "contact_success_rate":
            reference = rows[0]["reference_contact_success_rate"]
            axis.axhline(reference, color="black", linestyle=":", label="cem 800 × 10")
        each = rows[0]["gflop"] / rows[0]["evaluations"]
        work = axis.secondary_xaxis(
            "top", functions=(lambda n, e=each: n * e, lambda g, e=each: g / e)
        )
        work.set_xlabel("GFLOP")
        for ticks in (axis.xaxis, work.xaxis):
            ticks.set_minor_formatter(NullFormatter())
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _cells(row: dict) -> list[str]:
    return [
        "–"
        if row[key] is None
        else show(row[key]) + (" ★" if number == 0 and row["default"] else "")
        for number, (key, _, show) in enumerate(_COLUMNS)
    ]
