# SPDX-License-Identifier: Apache-2.0
"""The folder of a demo: when something was not measured, and when it exists already."""

import argparse
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from vjepa2_ros.cli import demo
from vjepa2_ros.demo import report
from vjepa2_ros.evaluation.record import Progress, Record


@pytest.fixture
def run_without_a_command():
    """A run whose planner failed at its first step."""
    numbers = {"energy": 0.5, "predicted_energy": float("nan"), "observation_age": 0.1}
    numbers |= {"encode_seconds": 0.01, "plan_seconds": 0.2, "command_latency": 0.0}
    end = Progress(10.0, "goal-1", "FAILED", True, 1, message="no plan", **numbers)
    image = np.zeros((64, 64, 3), np.uint8)
    record = Record(
        progress=[end],
        images=[(time, image) for time in (9.9, 10.1)],
        positions=[(10.0, np.zeros(3)), (10.0, np.zeros(3))],
    )
    return report.Run(record, "goal-1", image, np.array([0.1, 0.0, 0.0]), 0.04)


def test_what_was_not_measured_is_null_in_json_and_a_dash_in_the_table(
    run_without_a_command, tmp_path
):
    report.write(run_without_a_command, tmp_path)
    for name in ("summary.json", "latency.json"):
        figures = json.loads((tmp_path / name).read_text(), parse_constant=pytest.fail)
        sent = figures["latency_ms"]["capture -> command sent"]
        assert sent == {"p50": None, "p99": None, "worst": None, "count": 0}
        # One step has no rate, and two states at one moment have none either.
        assert figures["rate_hz"]["steps"] is figures["rate_hz"]["robot states"] is None
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["energies"] == [0.5] and summary["predicted_energies"] == [None]
    table = (tmp_path / "latency.md").read_text()
    assert "| capture -> command sent | – | – | – | 0 |" in table and "| steps | – |" in table
    assert "| planner | 200.0 | 200.0 | 200.0 | 1 |" in table and "nan" not in table


def test_a_folder_that_exists_is_not_touched(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    assert demo.run(parser.parse_args(["--output", str(tmp_path)])) == 1
    assert capsys.readouterr().err == f"{tmp_path} exists already: give another --output\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["file/demo", "/proc/demo"])
def test_a_folder_that_cannot_be_written_is_one_line_before_anything_starts(
    place, tmp_path, capsys
):
    (tmp_path / "file").write_text("")
    folder = tmp_path / place
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    assert demo.run(parser.parse_args(["--output", str(folder)])) == 1
    errors = capsys.readouterr().err
    assert errors.startswith(f"cannot write to {folder}: ") and errors.count("\n") == 1


def test_a_configuration_that_is_refused_leaves_no_folder(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    absent = str(tmp_path / "absent.yaml")
    arguments = ["--output", str(tmp_path / "demo"), "--config", absent]
    assert demo.run(parser.parse_args(arguments)) == 2
    assert absent in capsys.readouterr().err and not (tmp_path / "demo").exists()


@pytest.mark.parametrize("domain", ["nonsense", "-1", "233"])
def test_a_domain_that_is_none_is_one_line_before_anything_starts(
    domain, tmp_path, capsys, monkeypatch
):
    """It was once found after seconds, with a traceback."""
    monkeypatch.setenv("ROS_DOMAIN_ID", domain)
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    assert demo.run(parser.parse_args(["--output", str(tmp_path / "demo")])) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ROS_DOMAIN_ID is '{domain}'") and not (tmp_path / "demo").exists()


@pytest.mark.parametrize("words", [["demo", "--output", "demo"], ["up", "--show"]])
def test_an_output_that_is_full_is_one_line_and_leaves_no_folder(words, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "ROS_DOMAIN_ID": "1"}
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "vjepa2_ros.cli.main", *words],
            cwd=tmp_path,
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 1 and line.startswith("cannot read or write: ")
    assert list(tmp_path.iterdir()) == []
