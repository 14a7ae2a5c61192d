# SPDX-License-Identifier: Apache-2.0
"""Processes that hang: the robot halts first, and somebody notices that the manager hangs."""

import signal
import socket
import threading
import time

import pytest

from vjepa2_ros.ros.notify import NOTIFY_SOCKET, READY, WATCHDOG
from vjepa2_ros.settings.stack import MANAGER
from vjepa2_ros.stack.process_group import ProcessGroup, ProcessGroupError
from vjepa2_ros.stack.start import start_stack
from vjepa2_ros.stack.watchdog import SILENCE

DEADLINE = 180.0
# There is no other stack in these namespaces.
ALONE = {"listening_time": 0.1}


def test_a_planner_that_hangs_does_not_delay_the_robots_halt(group, tiny_model):
    """It once was deactivated before the controller, which took 5 s while it hung."""
    parameters = {"planner_node": {"checkpoint": str(tiny_model)}, MANAGER: ALONE}
    start_stack(group, ("controller_node", "planner_node"), parameters, "/hanging")
    planner = group.processes["planner_node"]
    planner.send(signal.SIGSTOP)
    try:
        group.processes[MANAGER].send(signal.SIGTERM)
        group.wait_for_line(MANAGER, "bringing all nodes down", DEADLINE)
        begun = time.monotonic()
        group.wait_for_line("controller_node", "deactivate: done", DEADLINE)
        assert time.monotonic() - begun < 1.0
        assert group.processes[MANAGER].is_running, "it waits for the planner"
    finally:
        planner.send(signal.SIGCONT)


def test_a_manager_that_hangs_is_noticed_by_its_starter(group):
    start_stack(group, ("controller_node",), {MANAGER: ALONE}, "/hanging_manager")
    group.check()
    manager = group.processes[MANAGER]
    manager.send(signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(ProcessGroupError, match=f"{MANAGER} hangs: it has given no sign of life"):
        while time.monotonic() < begun + DEADLINE:
            group.check()
            # Nothing tells when a process hangs.
            threading.Event().wait(0.1)
    assert time.monotonic() - begun < SILENCE + 2.0
    group.stop()
    assert group.killed == [MANAGER]
    assert "deactivate: done" in "".join(group.processes["controller_node"].lines)


def test_the_manager_tells_a_service_manager_that_all_is_up_and_that_it_lives(tmp_path):
    """As a service of systemd with Type=notify and WatchdogSec."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        receiver.settimeout(DEADLINE)
        with ProcessGroup(environment={NOTIFY_SOCKET: address}) as group:
            group.start_node("controller_node", namespace="/service")
            group.start_node(MANAGER, {"nodes": ["controller_node"], **ALONE}, "/service")
            received = [receiver.recv(100).decode()]
            while received[-1] != READY:
                received.append(receiver.recv(100).decode())
        assert set(received[:-1]) == {WATCHDOG}
