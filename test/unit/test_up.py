# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros up`: what its arguments change, what it refuses, and how it ends."""

import argparse
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from vjepa2_ros.cli import up
from vjepa2_ros.settings.stack import MANAGER, READY, managed_nodes
from vjepa2_ros.stack.process_group import ProcessGroup

DEADLINE = 180.0
UP = f"""
import sys
from vjepa2_ros.cli.main import main
from vjepa2_ros.stack.process_group import ProcessGroup

def start_node(self, name, *arguments, **named):
    # A plain program instead of each node.
    ready = "print({READY!r}, flush=True); " if name == {MANAGER!r} else ""
    loud = "import os; print('pid', os.getpid(), flush=True); "
    loud += "open(os.path.join(os.environ['SPOKEN'], str(os.getpid())), 'w').close(); "
    return self.start(name, [sys.executable, "-c", loud + ready + "import time; time.sleep(1000)"])

ProcessGroup.start_node = start_node
sys.argv[0] = "vjepa2-ros"
sys.exit(main())
"""


def parse(*words):
    parser = argparse.ArgumentParser()
    up.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


@pytest.fixture
def no_process(monkeypatch):
    """What is refused must not start anything."""
    monkeypatch.setattr(ProcessGroup, "start", lambda *_: pytest.fail("a process was started"))


def test_a_camera_takes_the_place_of_the_simulation(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(
        "vjepa2_ros.stack.start.start_stack", lambda *given, **_: started.append(given)
    )
    monkeypatch.setattr(ProcessGroup, "check", lambda self: os.kill(os.getpid(), signal.SIGINT))
    for words, where in ((["--seed", 0], "simulation"), (["--camera", tmp_path], "hardware")):
        assert up.run(parse(*words)) == 0
        _, nodes, parameters, *_ = started.pop()
        assert nodes == managed_nodes(where)
    assert parameters["camera_node"] == {"source": "folder", "path": str(tmp_path)}


def test_a_parameter_file_that_cannot_be_used_is_refused(no_process, tmp_path, capsys):
    assert up.run(parse("--config", tmp_path / "absent.yaml")) == 2
    assert "absent.yaml: No such file" in capsys.readouterr().err


@pytest.fixture
def environment(tmp_path):
    return {
        **os.environ,
        "ROS_DOMAIN_ID": f"test-{os.getpid()}",
        "PYTHONUNBUFFERED": "1",
        "SPOKEN": str(tmp_path),
    }


def start(environment, **streams):
    return subprocess.Popen([sys.executable, "-c", UP, "up"], env=environment, **streams)


def pids_of(process):
    """Process of each node by name, once all are up."""
    found, ready = {}, False
    late = threading.Timer(DEADLINE, process.kill)
    late.start()
    for line in process.stdout:
        ready = ready or READY in line
        if match := re.match(r"\[(\w+)\] pid (\d+)", line):
            found[match[1]] = int(match[2])
        if ready and len(found) == len(managed_nodes("simulation")) + 1:
            late.cancel()
            return found
    raise AssertionError(f"not up; so far: {found}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(number, environment):
    process = start(environment, stdout=subprocess.PIPE, text=True)
    pids_of(process)
    process.send_signal(number)
    process.stdout.close()
    assert process.wait(DEADLINE) == 0


def test_a_second_one_is_refused_at_once_and_the_first_goes_on(environment):
    first = start(environment, stdout=subprocess.PIPE, text=True)
    pids_of(first)
    second = subprocess.run(
        [sys.executable, "-c", UP, "up"], env=environment, capture_output=True, text=True
    )
    assert second.returncode == 1 and second.stdout == ""
    assert "another stack runs in namespace /vjepa2" in second.stderr
    assert first.poll() is None
    first.terminate()
    first.stdout.close()
    assert first.wait(DEADLINE) == 0


def test_a_lost_node_ends_it_within_a_second_although_its_output_is_a_full_disk(environment):
    """It once ran for 25 s more: the thread that read had ended with a write error."""
    with open("/dev/full", "w") as full:
        process = start(environment, stdout=full, stderr=full)
        deadline = time.monotonic() + DEADLINE
        # Until the last of them has said something.
        while len(nodes := os.listdir(environment["SPOKEN"])) < 5:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        os.kill(int(nodes[0]), signal.SIGKILL)
        killed = time.monotonic()
        assert process.wait(DEADLINE) == 1
    # The others end by the first signal.
    assert time.monotonic() - killed < 3.0


def test_an_output_that_is_not_read_does_not_keep_it_from_ending(environment):
    process = start(environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    pids = pids_of(process)
    os.kill(pids["encoder_node"], signal.SIGKILL)
    assert process.wait(DEADLINE) == 1
    process.stdout.close()


def test_a_seed_of_the_simulation_is_refused_beside_a_camera(no_process, tmp_path, capsys):
    assert up.run(parse("--camera", tmp_path, "--seed", 3)) == 2
    assert "give one" in capsys.readouterr().err


def test_a_camera_that_is_nothing_is_refused_before_anything_starts(no_process, tmp_path, capsys):
    assert up.run(parse("--camera", tmp_path / "absent.mp4")) == 2
    assert "there is no video file or folder" in capsys.readouterr().err
