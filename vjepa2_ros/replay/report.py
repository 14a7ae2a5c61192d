# SPDX-License-Identifier: Apache-2.0
"""A replay and its gates as a table, as JSON and as JUnit XML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from rich.markup import escape
from rich.table import Table

from vjepa2_ros.replay.gates import Check
from vjepa2_ros.replay.replay import Replay


def step_table(replay: Replay) -> Table:
    """A row for each plan."""
    table = Table(title="plans beside the recorded commands")
    for name in ("goal", "step", "angle [°]", "apart [cm]", "length [cm]", "gripper", "energy",
                 "predicted", "surprise", "gate"):  # fmt: skip
        table.add_column(name, justify="left" if name in ("goal", "gate") else "right")
    for step in replay.steps:
        length = float((step.planned**2).sum() ** 0.5)
        table.add_row(
            escape(f"{step.goal_id} {step.subgoal + 1}"),
            str(step.number),
            f"{step.angle * 57.29578:.0f}",
            f"{step.distance * 100:.1f}",
            f"{length * 100:.1f}",
            f"{step.planned_closedness:.2f}",
            f"{step.energy:.3f}",
            f"{step.predicted_energy:.3f}",
            f"{step.surprise:.3f}",
            step.verdict.name + (f", {step.finished}" if step.finished else ""),
        )
    return table


def gate_table(checks: Sequence[Check]) -> Table:
    """A row for each gate."""
    table = Table(title="gates")
    for name in ("gate", "value", "bound", "", "of"):
        table.add_column(name, justify="right" if name == "value" else "left")
    for check in checks:
        passed = "passed" if check.passed else "FAILED"
        table.add_row(check.name, f"{check.value:.3g}", check.bound, passed, escape(check.detail))
    return table


def as_json(replay: Replay, checks: Sequence[Check]) -> dict:
    """All of it as plain values."""
    return {
        "hash": replay.digest,
        "passed": all(check.passed for check in checks),
        "gates": [vars(check) for check in checks],
        "left_out": replay.left_out,
        "steps": [
            {
                **{name: value for name, value in vars(step).items() if name != "verdict"},
                "verdict": step.verdict.name,
                "angle": step.angle,
                "distance": step.distance,
            }
            for step in replay.steps
        ],
    }


def write_junit(checks: Sequence[Check], name: str, path: Path) -> None:
    """JUnit XML: a test case for each gate.

    Args:
        checks: of the replay.
        name: of the suite.
        path: of the file.
    """
    failures = sum(not check.passed for check in checks)
    suite = ElementTree.Element(
        "testsuite", name=name, tests=str(len(checks)), failures=str(failures), errors="0"
    )
    for check in checks:
        case = ElementTree.SubElement(suite, "testcase", classname=name, name=check.name)
        text = f"{check.value:.6g} {check.detail}, wanted {check.bound}"
        if check.passed:
            ElementTree.SubElement(case, "system-out").text = text
        else:
            ElementTree.SubElement(case, "failure", message=text)
    tree = ElementTree.ElementTree(ElementTree.Element("testsuites"))
    tree.getroot().append(suite)
    ElementTree.indent(tree)
    tree.write(path, encoding="UTF-8", xml_declaration=True)
