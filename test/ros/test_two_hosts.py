# SPDX-License-Identifier: Apache-2.0
"""A stack on two hosts: two network namespaces of this machine with a cable between them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from vjepa2_ros.msg import PlanningStatus
from vjepa2_ros.settings.stack import MANAGER
from vjepa2_ros.stack.reach import PROFILES

DEADLINE = 180.0
NETWORK = {
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
    # Shared memory would go past the cable: it is the same machine.
    "FASTDDS_BUILTIN_TRANSPORTS": "UDPv4",
}
# The profile of the test session has the loopback interface alone.
OWN = {name: value for name, value in os.environ.items() if name not in PROFILES}
needs_namespaces = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None,
    reason="NO ROOT OR NO `ip` (package iproute2): a stack on two hosts is NOT TESTED",
)


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts():
    """Names of two network namespaces, robot and gpu, with one cable between them."""
    names = [f"vj{os.getpid()}{side}" for side in "rg"]
    cables = [f"vj{os.getpid()}{side}" for side in "ab"]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", cables[0], "type", "veth", "peer", "name", cables[1])
        for number, (name, cable) in enumerate(zip(names, cables, strict=True), 1):
            ip("link", "set", cable, "netns", name)
            ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", cable)
            ip("-n", name, "link", "set", cable, "up")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "route", "add", "224.0.0.0/4", "dev", cable)
        yield names
    finally:
        for name in names:
            with suppress(subprocess.CalledProcessError):
                ip("netns", "delete", name)


def on(host, *command):
    """The command that runs Python on one of the hosts."""
    return ["ip", "netns", "exec", host, sys.executable, *command]


class Side:
    """`vjepa2-ros up --side` on one of the hosts, and what it has printed."""

    def __init__(self, host, *words):
        self.process = subprocess.Popen(
            on(host, "-m", "vjepa2_ros.cli.main", "up", *words),
            env={**OWN, **NETWORK},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines, self._changed = [], threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()

    def wait_for(self, text):
        with self._changed:
            found = self._changed.wait_for(lambda: any(text in x for x in self.lines), DEADLINE)
        assert found, "".join(self.lines[-30:])

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE)


@needs_namespaces
def test_a_goal_is_reached_on_two_hosts(hosts, tiny_model, tmp_path):
    robot, gpu = hosts
    settings = tmp_path / "wire.yaml"
    settings.write_text("/**: {ros__parameters: {image_transport: compressed}}\n")
    common = ["--config", str(settings), "--checkpoint", str(tiny_model)]
    sides = [Side(gpu, "--side", "gpu", *common), Side(robot, "--side", "robot", *common)]
    # By hand, on the host without the planner.
    clip = subprocess.Popen(
        on(robot, "-m", "vjepa2_ros.nodes", "clip_node", "--ros-args", "-r", "__ns:=/vjepa2",
           "--params-file", str(settings)),
        env={**OWN, **NETWORK},
    )  # fmt: skip
    try:
        sides[1].wait_for("all nodes are active")
        assert not any(line.startswith(f"[{MANAGER}]") for line in sides[0].lines)
        assert any("discovery range SUBNET" in line for line in sides[0].lines)
        goal = subprocess.run(
            on(robot, str(Path(__file__).with_name("goal_on_this_host.py"))),
            env={**OWN, **NETWORK, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
        )
        assert goal.returncode == 0, goal.stderr
        seen = json.loads(goal.stdout)
        assert seen["state"] == PlanningStatus.REACHED, seen["message"]
        assert seen["from"] == "/vjepa2/encoder_node" and seen["wire"] < seen["raw"] / 4
        assert 0.0 < float(seen["link"]["image_mbit_s"]) < 8e-6 * seen["raw"] * 10
        assert float(seen["link"]["image_latency_ms"]) > 0.0, "it is the same clock"
        assert seen["clip"] == 16
        # The robot side brings the nodes of both down; those of the other host wait for a next one.
        assert sides[1].end() == 0
        sides[0].wait_for("clean up: done")
        assert sides[0].process.poll() is None
        assert sides[0].end() == 0
    finally:
        for process in (clip, *(side.process for side in sides)):
            process.kill()


SHIFTED = """
import sys
from rclpy.duration import Duration
from vjepa2_ros.nodes.camera_node import CameraNode, main
from vjepa2_ros.ros import managed_node
from vjepa2_ros.ros.compatibility import BOOT, identity

class Clock:
    def __init__(self, clock):
        self.clock = clock

    def now(self):
        return self.clock.now() + Duration(seconds=0.5)

    def __getattr__(self, name):
        return getattr(self.clock, name)

CameraNode.get_clock = lambda self: Clock(super(CameraNode, self).get_clock())
managed_node.identity = lambda: {**identity(), BOOT: "another machine"}
sys.exit(main())
"""


def test_a_host_whose_clock_differs_is_refused_with_what_to_do(group):
    namespace = ["--ros-args", "-r", "__ns:=/shifted"]
    group.start("camera_node", [sys.executable, "-c", SHIFTED, *namespace])
    parameters = {"nodes": ["camera_node"], "listening_time": 0.1}
    group.start_node(MANAGER, parameters, "/shifted")
    assert group.wait_for_end(MANAGER, DEADLINE) == 1
    said = "\n".join(group.processes[MANAGER].lines)
    assert "cannot be camera_node: its clock is 0.5" in said and "s ahead" in said
    assert "chrony" in said and "bringing all nodes down" not in said
