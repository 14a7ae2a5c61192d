# SPDX-License-Identifier: Apache-2.0
"""A process whose output is not read goes on all the same."""

import os
import pty
import subprocess
import sys

import pytest

DEADLINE = 180.0
LOUD = """
import os, sys
from vjepa2_ros.ros.output import never_wait_for_output
never_wait_for_output()
print("first")
for _ in range(5000):
    print("o" * 100)
    print("e" * 100, file=sys.stderr)
os._exit(7)
"""


def loud(**streams):
    return subprocess.Popen([sys.executable, "-c", LOUD], **streams)


def test_a_pipe_that_is_not_read_does_not_stop_the_process():
    process = loud(stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.wait(DEADLINE) == 7
    assert process.stdout.readline() == b"first\n", "what fits is kept"
    process.stdout.close()


def test_a_terminal_that_is_stopped_does_not_stop_the_process_and_stays_blocking():
    reader, terminal = pty.openpty()
    process = loud(stdout=terminal, stderr=terminal)
    assert process.wait(DEADLINE) == 7
    assert os.get_blocking(terminal), "the terminal is shared with the shell"
    os.close(reader), os.close(terminal)


def test_an_output_that_is_closed_or_full_does_not_end_the_process():
    reader, writer = os.pipe()
    os.close(reader)
    with open("/dev/full", "w") as full:
        process = loud(stdout=writer, stderr=full)
        os.close(writer)
        assert process.wait(DEADLINE) == 7


def test_a_file_gets_every_line(tmp_path):
    with open(tmp_path / "log", "w") as file:
        process = loud(stdout=file, stderr=subprocess.DEVNULL)
        assert process.wait(DEADLINE) == 7
    assert len((tmp_path / "log").read_text().splitlines()) == 5001


def test_the_log_of_ros_does_not_wait_for_a_pipe_either():
    pytest.importorskip("rclpy", reason="ROS 2 IS ABSENT: its log is not tested")
    code = LOUD.replace(
        "for _", "from rclpy.logging import get_logger\nlog = get_logger('x')\nfor _"
    ).replace('print("e" * 100, file=sys.stderr)', 'log.error("e" * 100)')
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.wait(DEADLINE) == 7
    process.stdout.close()
