# SPDX-License-Identifier: Apache-2.0
"""The command that injects faults, over real processes."""

import json
import subprocess
import sys

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
    assert row["commands_after"] == 0 and row["not_at_rest"] == 0
    assert 0.0 <= row["rest_s_median"] <= row["rest_s_worst"]
    assert 0.0 < row["distance_m_worst"] < 0.15, "it was in motion, and did not go there"
    assert row["resumes"] == "reset_fault, new goal"
    assert "STEP_TOO_LARGE" in done.stdout
    again = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=30.0)
    assert again.returncode == 0 and again.stdout == done.stdout, "nothing is measured twice"


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
