# SPDX-License-Identifier: Apache-2.0
"""How the stack is started: with plain programs instead of the nodes."""

import os
import subprocess
import sys

import pytest

from vjepa2_ros.settings.stack import MANAGER, READY, managed_nodes
from vjepa2_ros.stack.claim import StackRunningError, claim
from vjepa2_ros.stack.process_group import ProcessGroup, ProcessGroupError
from vjepa2_ros.stack.start import start_stack

DEADLINE = 180.0
PATIENT = "import time; time.sleep(1000)"
UP = f"print({READY!r}, flush=True); {PATIENT}"


@pytest.fixture(autouse=True)
def own_domain(monkeypatch):
    """Another run of the tests on this machine must not hold the namespace."""
    monkeypatch.setenv("ROS_DOMAIN_ID", f"test-{os.getpid()}")


class Recorder(ProcessGroup):
    """Writes down the command of each node and starts a plain program in its place."""

    def __init__(self, manager):
        super().__init__()
        self.manager, self.commands = manager, {}

    def start(self, name, command, vital=True):
        self.commands[name] = command
        code = self.manager if name == MANAGER else PATIENT
        return super().start(name, [sys.executable, "-c", code], vital)

    def wait_for_line(self, name, text, timeout=None, stop=None):
        assert timeout is None, "the deadlines are the lifecycle manager's"
        return super().wait_for_line(name, text, timeout, stop)


def test_each_process_gets_its_own_parameters_and_the_manager_the_nodes():
    parameters = {
        "planner_node": {"icem.evaluations": 8},
        MANAGER: {"heartbeat_timeout": 2.0, "shutdown_timeout": 2.0},
    }
    nodes = managed_nodes("hardware")
    with Recorder(UP) as group:
        start_stack(group, nodes, parameters, "/mine")
        longest = group.stop_timeout
    assert list(group.commands) == [*nodes, MANAGER]
    assert "icem.evaluations:=8" in group.commands["planner_node"]
    assert f"nodes:=[{', '.join(nodes)}]" in group.commands[MANAGER]
    assert "heartbeat_timeout:=2.0" in group.commands[MANAGER]
    assert not any("icem" in word for word in group.commands["encoder_node"])
    assert all("__ns:=/mine" in command for command in group.commands.values())
    assert 8.0 < longest < 30.0, "follows from the manager's own deadlines"


def test_a_lifecycle_manager_that_gives_up_ends_the_wait_with_its_words():
    with Recorder("print('encoder_node did not configure'); raise SystemExit(1)") as group:
        with pytest.raises(ProcessGroupError, match="exit code 1(.|\n)*encoder_node did not"):
            start_stack(group)


def test_a_second_stack_in_the_namespace_is_refused_before_anything_starts():
    with Recorder(UP) as first, Recorder(UP) as second, Recorder(UP) as elsewhere:
        start_stack(first)
        with pytest.raises(ProcessGroupError, match="another stack runs in namespace /vjepa2, ROS"):
            start_stack(second)
        assert second.processes == {}
        start_stack(elsewhere, namespace="/elsewhere")
        first.check()
    with Recorder(UP) as third:
        start_stack(third)


def test_a_real_robot_beside_the_simulated_camera_is_refused_before_anything_starts():
    with Recorder(UP) as group:
        for robot in ("franka", "my_arm:Arm"):
            with pytest.raises(ProcessGroupError, match="would move by images of the simulation"):
                start_stack(group, parameters={"controller_node": {"robot": robot}})
        assert group.processes == {}
        start_stack(
            group, managed_nodes("hardware"), {"controller_node": {"robot": "franka"}}, "/real"
        )


def test_a_namespace_is_free_again_once_its_holder_was_killed():
    code = (
        "from vjepa2_ros.stack.claim import claim; held = claim('mine'); "
        f"print('held', flush=True); {PATIENT}"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(StackRunningError, match="namespace /mine"):
        claim("/mine/")
    claim("/mine", {"ROS_DOMAIN_ID": "another"}).close()
    holder.kill()
    holder.wait(DEADLINE)
    claim("/mine").close()
