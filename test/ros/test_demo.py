# SPDX-License-Identifier: Apache-2.0
"""The demo as a user runs it: exit code, files, a bag that can be read, and nothing left behind."""

import hashlib
import json
import os
import signal
import sys
import urllib.request
import uuid
from pathlib import Path

import cv2
import pytest
import yaml
from PIL import Image
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability

from vjepa2_ros.recording.reading import read_bag
from vjepa2_ros.settings.model import ModelSettings
from vjepa2_ros.settings.stack import managed_nodes
from vjepa2_ros.share import share_directory
from vjepa2_ros.stack.process_group import ProcessGroup

DEADLINE = 600.0
SHIPPED = (share_directory() / "models" / ModelSettings().checkpoint / "config.json").is_file()
PICTURES = [f"goal_{number}.png" for number in range(1, 7)]
FILES = {"animation.gif", "energy.png", "imagined.png", "motion.png", "latency.json", "latency.md"}
FILES |= {"summary.json", *PICTURES}


class Command:
    """`vjepa2-ros …` as a process whose descendants can be told from all others."""

    def __init__(self, *arguments):
        self._mark = uuid.uuid4().hex
        # Its own domain: not that of the stack under test.
        domain = str(1 + (int(os.environ["ROS_DOMAIN_ID"]) + 50) % 100)
        self.group = ProcessGroup(environment={"TEST_MARK": self._mark, "ROS_DOMAIN_ID": domain})
        program = [sys.executable, "-m", "vjepa2_ros.cli.main", *map(str, arguments)]
        self.process = self.group.start("program", program)

    def end(self):
        return self.group.wait_for_end("program", DEADLINE)

    def said(self):
        return "\n".join(self.process.lines)

    def left_behind(self):
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if f"TEST_MARK={self._mark}" in (path / "environ").read_text(errors="replace"):
                    found.append((path / "cmdline").read_text(errors="replace"))
            except OSError:
                continue
        return found


@pytest.fixture
def command():
    started = []

    def start(*arguments):
        started.append(Command(*arguments))
        return started[-1]

    yield start
    for one in started:
        one.group.stop()


def test_the_demo_leaves_images_figures_and_a_bag_of_every_topic(command, tmp_path, tiny_model):
    folder = tmp_path / "demo"
    arguments = [] if SHIPPED else ["--checkpoint", tiny_model]
    demo = command("demo", "--seed", 1, "--steps", 2, "--panel", "--output", folder, *arguments)
    url = demo.group.wait_for_line("program", "the page is at", DEADLINE).split()[-1]
    assert b"<html" in urllib.request.urlopen(url, timeout=DEADLINE).read()
    code = demo.end()
    summary = json.loads((folder / "summary.json").read_text()) if folder.exists() else {}
    assert summary, demo.said()
    # Two steps on a picture do not suffice everywhere: what is tested is that all say the same.
    assert code == (0 if summary["success"] else 1), demo.said()
    assert summary["success"] == (summary["cause"] is None)
    assert summary["task"] == "pick_and_place" and summary["object"] == "box"
    verdict = "success: box " if summary["success"] else f"NO success ({summary['cause']}): box "
    assert verdict in demo.said() and "above the object (1 of 6)" in demo.said()
    assert demo.left_behind() == []

    assert FILES == {p.name for p in folder.iterdir()} - {"bag", "nodes.log"}
    with Image.open(folder / "animation.gif") as animation:
        assert animation.n_frames > 3 and animation.size == (512, 310)
    assert cv2.imread(str(folder / "energy.png")) is not None
    assert {"p50", "p99"} <= set(summary["latency_ms"]["capture -> command sent"])
    assert summary["steps"] == len(summary["energies"]) == len(summary["subgoals"])
    assert sorted(set(summary["subgoals"])) == list(range(6))
    assert "| planner |" in (folder / "latency.md").read_text()
    pictures = [(folder / name).read_bytes() for name in PICTURES]
    check_bag(folder / "bag", summary["goal_id"], pictures)


@pytest.mark.slow
@pytest.mark.skipif(not SHIPPED, reason="THE SHIPPED MODEL IS ABSENT: its loop is not measured")
def test_the_loop_is_measured_with_stops_and_with_plans_made_in_motion(command, tmp_path):
    report, folder = tmp_path / "loop.json", tmp_path / "loop"
    bench = command("bench", "loop", "--seeds", 1, "--json", report, "--output", folder)
    assert bench.end() == 0, bench.said()
    series = json.loads(report.read_text())
    assert [figures["overlap"] for figures in series] == [False, True]
    for figures, name in zip(series, ("stops", "overlap"), strict=True):
        assert figures["reached"] == figures["runs"] == 1, bench.said()
        sent = figures["latency_ms"]["capture -> command sent"]
        assert sent["count"] >= 2 and 0 < sent["p50"] <= sent["p99"] <= sent["worst"]
        assert (folder / name / "seed-1" / "summary.json").is_file()
    assert bench.left_behind() == []


def digest(data):
    return hashlib.sha256(bytes(data)).hexdigest()[:8]


def check_bag(folder, goal_id, pictures):
    messages, connections = {}, {}
    with AnyReader([folder]) as reader:
        for connection, _, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            messages.setdefault(connection.topic, []).append(message)
            connections[connection.topic] = connection
    for topic in ("camera/image_raw", "camera/camera_info", "latent", "robot_state",
                  "simulator/state", "simulator/target", "simulator/truth"):  # fmt: skip
        assert messages[f"/vjepa2/{topic}"], list(messages)
    assert messages["/diagnostics"] and messages["/rosout"] and list(folder.glob("*.mcap"))
    assert {command.goal_id for command in messages["/vjepa2/command"]} == {goal_id}
    # From the first transition to the last. A datagram that a busy machine drops is not sent again
    # by a process that has ended: the last ones may be missing of a node, but not of all.
    ending = ["deactivating", "inactive", "cleaningup", "unconfigured"]
    whole = []
    for name in managed_nodes("simulation"):
        passed = [event.goal_state.label for event in messages[f"/vjepa2/{name}/transition_event"]]
        assert passed[:4] == ["configuring", "inactive", "activating", "active"], (name, passed)
        left = iter(ending)
        assert all(state in left for state in passed[4:8]), (name, passed)
        whole += [name] if passed[4:8] == ending else []
    assert whole, "the recording ends before the stack does"
    # What was asked for, as it was sent, sub-goal by sub-goal, latched for whoever plays the bag.
    assert messages["/vjepa2/goal"][-1].goal_id == goal_id
    shown = messages["/vjepa2/goal_image/compressed"]
    # Digests: what differs is to be read.
    assert [digest(image.data) for image in shown] == [digest(picture) for picture in pictures]
    for topic in ("goal", "goal_image/compressed", "status"):
        (qos,) = connections[f"/vjepa2/{topic}"].ext.offered_qos_profiles
        assert qos.durability == QosDurability.TRANSIENT_LOCAL, topic
    # What describes the stack, beside the messages.
    recorded = read_bag(folder)
    assert recorded.metadata["model"] and recorded.metadata["version"]
    assert yaml.safe_load(recorded.metadata["calibration"])["k"][0] > 0
    assert set(managed_nodes("simulation")) <= set(recorded.parameters())
    assert recorded.parameters()["planner_node"]["checkpoint"]
    # The comments of the definitions, too.
    assert "# Name of the goal" in connections["/vjepa2/goal"].msgdef.data


@pytest.mark.parametrize("moment", ["to observe", "starting the nodes"])
def test_an_interrupted_demo_leaves_no_process_behind(command, tmp_path, tiny_model, moment):
    demo = command("demo", "--checkpoint", tiny_model, "--output", tmp_path / "demo")
    demo.group.wait_for_line("program", moment, DEADLINE)
    demo.process.popen.send_signal(signal.SIGINT)
    assert demo.end() == 130, demo.said()
    assert demo.said().endswith("interrupted") and "Traceback" not in demo.said()
    assert demo.left_behind() == []


def test_a_demo_without_its_model_says_so(command, tmp_path):
    absent = tmp_path / "no_model"
    demo = command("demo", "--checkpoint", absent, "--output", tmp_path / "demo")
    assert demo.end() == 1
    assert "no checkpoint at" in demo.said() and demo.left_behind() == []


def test_the_stack_comes_up_and_goes_down_with_one_command(command, tmp_path, tiny_model):
    up = command("up", "--checkpoint", tiny_model, "--record", tmp_path / "bag")
    for line in ("recording into", "all nodes are active"):
        up.group.wait_for_line("program", line, DEADLINE)
    up.process.popen.send_signal(signal.SIGINT)
    assert up.end() == 0, up.said()
    assert up.left_behind() == []
    # What is in a bag is tested with the recorder, which has just begun here.
    with AnyReader([tmp_path / "bag"]):
        pass
