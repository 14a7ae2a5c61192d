# SPDX-License-Identifier: Apache-2.0
"""Run every case of a folder of golden sets."""

from pathlib import Path

from rich.markup import escape
from rich.table import Table

from vjepa2_ros.verification.golden import Case, GoldenError, GoldenSet, not_covered
from vjepa2_ros.verification.inputs import pose_cases, preprocessing_cases
from vjepa2_ros.verification.models import model_cases, published_cases
from vjepa2_ros.verification.planning import planning_cases


def run(folder: str | Path) -> list[Case]:
    """All comparisons of all sets in a folder; what the sets hold and nothing compares fails.

    Raises GoldenError where the folder holds no set, or a file of one is missing or unreadable.
    """
    folder = Path(folder)
    sets = sorted(folder.glob("meta_*.json"))
    if not sets:
        raise GoldenError(
            f"{folder.absolute()} holds no golden set:"
            " meta_X.json, arrays_X.npz and weights_X.safetensors"
        )
    return [case for path in sets for case in run_set(GoldenSet(path))]


def run_set(golden: GoldenSet) -> list[Case]:
    """All comparisons of one set."""
    cases = [
        *model_cases(golden),
        *published_cases(golden),
        *preprocessing_cases(golden),
        *pose_cases(golden),
        *planning_cases(golden),
    ]
    cases += [
        Case(key, "array", False, message="described, but missing from the arrays")
        for key in golden.absent()
    ]
    broken = {case.case for case in cases if case.error is None and not case.passed}
    left: dict[str, list[str]] = {}
    for key in golden.unread():
        group, _, name = key.rpartition("/")
        if group not in broken:  # else its row says already why nothing was compared
            left.setdefault(group, []).append(name)
    cases += [
        not_covered(group, ", ".join(names), "nothing here compares these")
        for group, names in left.items()
    ]
    return cases


def table(cases: list[Case], title: str) -> Table:
    """The comparisons as a table: case, what, maximal error, tolerance, verdict."""
    drawn = Table(title=title)
    for heading in ("case", "what"):
        drawn.add_column(heading, overflow="fold")
    for heading in ("max abs error", "tolerance"):
        drawn.add_column(heading, justify="right")
    drawn.add_column("verdict", overflow="fold")
    for case in cases:
        drawn.add_row(
            case.case,
            case.what,
            "-" if case.error is None else f"{case.error:.2e}",
            "-" if case.tolerance is None else f"{case.tolerance:.0e}",
            "[green]pass[/]"
            if case.passed
            else f"[bold red]FAIL[/] {escape(case.message)}".rstrip(),
        )
    return drawn
