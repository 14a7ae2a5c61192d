# SPDX-License-Identifier: Apache-2.0
"""The recorder as a node of its own, beside nodes that somebody else has started."""

import signal

import cv2
import numpy as np
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from probe import Probe
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import Image

from vjepa2_ros.msg import Goal
from vjepa2_ros.ros.qos import LATCHED, LATEST
from vjepa2_ros.stack.process_group import ProcessGroup

DEADLINE = 180.0


def test_a_bag_is_written_beside_a_running_stack_with_what_describes_it(tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), np.full((48, 64, 3), 60, np.uint8))
    bag = tmp_path / "bag"
    probe = Probe("/watched")
    try:
        probe.listen(Image, "camera/image_raw", LATEST)
        probe.listen(DiagnosticArray, "/diagnostics", 50)
        # Set before anybody records: latched, as the planner's goals are.
        publisher = probe.node.create_publisher(Goal, "goal", LATCHED)
        publisher.publish(Goal(goal_id="goal-1", steps=[7]))
        with ProcessGroup() as group:
            camera = {"source": "folder", "path": str(tmp_path), "rate": 20.0}
            group.start_node("camera_node", camera, namespace="/watched")
            group.start_node("recorder_node", {"folder": str(bag)}, namespace="/watched")
            group.wait_for_line("recorder_node", f"recording into {bag}", DEADLINE)
            for transition in ("configure", "activate"):
                assert probe.change("camera_node", transition)
            probe.wait("camera/image_raw")
            probe.wait("/diagnostics", describes_the_camera)
            group.processes["recorder_node"].send(signal.SIGINT)
            assert group.wait_for_end("recorder_node", DEADLINE) == 0
    finally:
        probe.close()
    metadata = yaml.safe_load((bag / "metadata.yaml").read_text())
    described = metadata["rosbag2_bagfile_information"]["custom_data"]
    assert yaml.safe_load(described["parameters"])["camera_node"]["rate"] == 20.0
    assert described["version"] and yaml.safe_load(described["calibration"])["width"] == 64
    with AnyReader([bag]) as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
        (goal,) = [c for c in reader.connections if c.topic == "/watched/goal"]
        ((_, _, data),) = reader.messages([goal])
        assert reader.deserialize(data, goal.msgtype).steps.tolist() == [7]
    assert counts["/watched/camera/image_raw"] > 0 and counts["/rosout"] > 0


def describes_the_camera(message):
    """Whether diagnostics are the recorder's word that it has got the camera's parameters."""
    return any(
        entry.key == "parameters of" and "camera_node" in entry.value
        for status in message.status
        if status.name.endswith("recorder_node")
        for entry in status.values
    )


def test_a_folder_that_is_there_is_refused_and_kept(tmp_path):
    (tmp_path / "mine").write_text("kept")
    with ProcessGroup() as group:
        group.start_node("recorder_node", {"folder": str(tmp_path)}, namespace="/watched")
        assert group.wait_for_end("recorder_node", DEADLINE) == 1
        said = group.processes["recorder_node"].tail()
    assert "no bag can be written" in said and str(tmp_path) in said and "Traceback" not in said
    assert (tmp_path / "mine").read_text() == "kept"
