# SPDX-License-Identifier: Apache-2.0
"""The command that injects faults, over real processes."""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from vjepa2_ros import plain_json
from vjepa2_ros.cli import faults as command_faults
from vjepa2_ros.faults import report
from vjepa2_ros.faults.catalogue import by_names
from vjepa2_ros.faults.fault import Repeat

FAULTS = [sys.executable, "-m", "vjepa2_ros.cli.main", "faults"]


def test_a_command_that_goes_too_far_halts_the_arm_until_a_person_resets_it(tmp_path):
    report = tmp_path / "faults.json"
    command = [*FAULTS, "--only", "command_far", "--repeats", "1", "--json", str(report)]
    done = subprocess.run(
        [*command, "--log", str(tmp_path / "log")], capture_output=True, text=True, timeout=180.0
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads(report.read_text())
    assert (row["fault"], row["repeats"], row["code"]) == ("command_far", 1, "STEP_TOO_LARGE")
    assert row["commands_after"] == 0 and row["not_at_rest"] == 0 and row["not_seen"] == 0
    assert 0.0 <= row["rest_s_median"] <= row["rest_s_worst"]
    assert 0.0 < row["distance_m_worst"] < 0.15, "it was in motion, and did not go there"
    assert row["resumes"] == "reset_fault, new goal"
    assert "STEP_TOO_LARGE" in done.stdout
    again = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=30.0)
    assert again.returncode == 0 and again.stdout == done.stdout, "nothing is measured twice"


def row(name, repeats=2, commands_after=0, origin="a commit"):
    """A row of a fault that was measured."""
    (fault,) = by_names([name])
    repeat = Repeat(0.1, 0.2, 0.03, commands_after, "STALE", "by itself")
    return {**report.row(fault, [repeat] * repeats), "origin": origin}


def arguments(file, *names, **others):
    """Of a run that goes on, with two repeats."""
    values = dict(json=file, only=list(names), repeats=2, resume=True, list=False, table=None)
    return argparse.Namespace(**{**values, "log": file.parent / "log", **others})


@pytest.fixture
def results(tmp_path):
    """A file with rows of three faults, one of them with too few repeats and one not known."""
    file = tmp_path / "faults.json"
    rows = row("command_far"), row("state_frozen", repeats=1), {**row("user_stop"), "fault": "old"}
    plain_json.write(list(rows), file)
    return file


@pytest.fixture
def page(tmp_path):
    """A page with a place for the table."""
    page = tmp_path / "page.md"
    page.write_text(f"{report.BEGIN}\n{report.END}\n")
    return page


def named(file):
    return [(row["fault"], row["repeats"]) for row in json.loads(file.read_text())]


def test_results_of_other_faults_stay_in_the_file_and_in_the_table(results, page, monkeypatch):
    def measure(args, faults, log, results):
        assert [fault.name for fault in faults] == ["state_gone"]
        results.add([row("state_gone")])
        return 0

    monkeypatch.setattr(command_faults, "_measure", measure)
    assert command_faults.run(arguments(results, "state_gone", table=page)) == 0
    assert named(results) == [
        ("state_frozen", 1), ("state_gone", 2), ("command_far", 2), ("old", 2),
    ]  # fmt: skip
    lines = page.read_text().splitlines()
    assert sum(line.startswith("| ") for line in lines) == 1 + 3, "head and the known faults"


def test_a_row_with_too_few_repeats_stays_until_it_is_replaced(results, page, monkeypatch):
    before = page.read_text()
    monkeypatch.setattr(command_faults, "_measure", lambda *_: 1)
    assert command_faults.run(arguments(results, "state_frozen", table=page)) == 1
    assert ("state_frozen", 1) in named(results)
    assert page.read_text() == before, "the run was not complete"


class Child:
    """In the place of the process for the network faults."""

    def __init__(self, monkeypatch, rows, code):
        self._rows, self._code = rows, code
        monkeypatch.setattr(subprocess, "run", self._run)

    def _run(self, command, **_):
        file = Path(command[command.index("--json") + 1])
        plain_json.write(self._rows, file)
        return SimpleNamespace(returncode=self._code)


@pytest.mark.parametrize(
    ("rows", "code", "failed"),
    [
        ([row("network_cut"), row("network_gone")], 0, False),
        ([row("network_cut"), row("network_gone", commands_after=1)], 1, False),
        ([row("network_cut")], 1, True),
        ([row("network_cut"), row("network_gone")], 1, True),
        ([row("network_cut"), row("network_gone")], -9, True),
        ([], 1, True),
    ],
)
def test_a_failure_of_the_process_for_the_network_is_said(
    results, monkeypatch, capsys, rows, code, failed
):
    Child(monkeypatch, rows, code)
    stored = command_faults._Results([], results, [])
    names = ["network_cut", "network_gone"]
    assert command_faults._measure_apart(arguments(results), names, Path("log"), stored) == failed
    assert (f"code {code}" in capsys.readouterr().err) == failed
    assert named(results) == [(row["fault"], 2) for row in rows], "what it measured is kept"


def test_results_that_cannot_be_gone_on_from_are_refused(tmp_path):
    file = tmp_path / "faults.json"
    file.write_text('{"fault": 1}')
    for arguments, said in (((), "needs --json"), (("--json", str(file)), "holds no results")):
        done = subprocess.run([*FAULTS, "--resume", *arguments], capture_output=True, text=True)
        assert done.returncode == 2 and said in done.stderr
    assert file.read_text() == '{"fault": 1}'


def test_a_fault_that_is_not_known_is_refused_with_those_that_are():
    done = subprocess.run([*FAULTS, "--only", "fire"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("unknown: fire; known: camera_frozen, ")
