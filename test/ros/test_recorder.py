# SPDX-License-Identifier: Apache-2.0
"""The bag of an observer that outlives the stack, read back with rosbags."""

import time

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from probe import Probe
from rclpy.serialization import serialize_message
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from vjepa2_ros.msg import Goal, PlanningStatus, RobotState
from vjepa2_ros.ros.qos import LATCHED, LATEST, STREAM
from vjepa2_ros.ros.recorder import Recorder, _message_type
from vjepa2_ros.stack.observer import StackObserver
from vjepa2_ros.stack.process_group import ProcessGroup
from vjepa2_ros.stack.start import start_stack

WAY = ("unconfigured", "configuring", "inactive", "activating", "active",
       "deactivating", "inactive", "cleaningup", "unconfigured",
       "shuttingdown", "finalized")  # fmt: skip
"""States that a node passes in a run that ends in order."""


def transitions_in(reader, node):
    """States that a node passed, the first one included."""
    topic = f"{node}/transition_event"
    events = [
        reader.deserialize(data, connection.msgtype)
        for connection, _, data in reader.messages(
            [c for c in reader.connections if c.topic == topic]
        )
    ]
    return tuple([events[0].start_state.label] + [event.goal_state.label for event in events])


def connection_of(reader, topic):
    (connection,) = [c for c in reader.connections if c.topic == topic]
    return connection


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Bag of a camera from its start to its end, with a planner's latched topics by the probe."""
    folder = tmp_path_factory.mktemp("recording")
    cv2.imwrite(str(folder / "0.png"), np.full((48, 64, 3), 60, np.uint8))
    camera = {"source": "folder", "path": str(folder), "rate": 50.0}
    probe = Probe("/recorded")
    try:
        # Long before anybody records.
        goal = Goal(header=Header(frame_id="camera"), goal_id="goal-1", steps=[7])
        for topic, message in (("goal", goal), ("status", PlanningStatus(goal_id="goal-1"))):
            publisher = probe.node.create_publisher(type(message), topic, LATCHED)
            publisher.publish(message)
        with StackObserver("/recorded", folder / "bag") as observer:
            # Of others: no image of the size it claims, and diagnostics of nothing.
            probe.publish("/diagnostics", DiagnosticArray(), LATCHED)
            probe.publish("camera/image_raw", Image(height=4, width=4, encoding="rgb8"), LATEST)
            with ProcessGroup() as group:
                start_stack(
                    group,
                    ("camera_node",),
                    {"camera_node": camera},
                    "/recorded",
                    on_started=lambda: probe.wait_until(
                        lambda: not observer.silent(["camera_node"])
                    ),
                )
                probe.wait_until(lambda: observer.record.images and observer.record.progress)
            record = observer.finish_record()
            assert len(record.images) > 1 and record.progress[0].goal_id == "goal-1"
    finally:
        probe.close()
    with AnyReader([folder / "bag"]) as reader:
        yield reader


def test_the_bag_has_every_transition_from_the_first_to_the_last(recording):
    assert transitions_in(recording, "/recorded/camera_node") == WAY


def test_a_latched_message_of_before_is_recorded_and_latched_in_the_bag(recording):
    connection = connection_of(recording, "/recorded/goal")
    (qos,) = connection.ext.offered_qos_profiles
    assert qos.durability == QosDurability.TRANSIENT_LOCAL and qos.depth == 1
    ((_, _, data),) = list(recording.messages([connection]))
    goal = recording.deserialize(data, connection.msgtype)
    assert goal.goal_id == "goal-1" and list(goal.steps) == [7]


def test_the_definitions_have_their_comments(recording):
    goal = connection_of(recording, "/recorded/goal").msgdef.data
    assert "# Name of the goal in commands and status." in goal
    # Of a message within it, and of one of another package.
    assert "MSG: vjepa2_ros/Latent" in goal and "Fingerprint of weights" in goal
    image = connection_of(recording, "/recorded/camera/image_raw").msgdef.data
    assert "# This message contains an uncompressed image" in image


def test_the_log_is_recorded(recording):
    connection = connection_of(recording, "/rosout")
    lines = [
        recording.deserialize(data, connection.msgtype).msg
        for _, _, data in recording.messages([connection])
    ]
    assert any("configure: done" in line for line in lines)


def test_no_message_is_lost_at_the_rate_of_a_controller(tmp_path):
    """Ten topics' worth of messages between two looks of the observer, all of them in order."""
    probe = Probe("/busy")
    try:
        with StackObserver("/busy", tmp_path / "bag") as observer:
            publisher = probe.node.create_publisher(RobotState, "robot_state", STREAM)
            probe.wait_until(lambda: publisher.get_subscription_count() == 1)
            for number in range(200):
                message = RobotState()
                message.header.stamp.sec = number + 1
                publisher.publish(message)
                time.sleep(0.005)
            record = observer.record
            probe.wait_until(lambda: record.positions and record.positions[-1][0] == 200.0)
            assert [when for when, _ in record.positions] == list(range(1, 201))
    finally:
        probe.close()


def test_messages_are_in_the_bag_in_the_order_in_which_they_were_delivered(tmp_path):
    """One that was lost on the wire and sent again is received after those that follow it."""
    probe = Probe("/resent")
    try:
        callbacks = []

        class Subscribing:
            create_timer, destroy_timer = probe.node.create_timer, probe.node.destroy_timer
            destroy_subscription = staticmethod(lambda _: None)

            def create_subscription(self, message_type, topic, callback, qos, raw):
                callbacks.append(callback)

        recorder = Recorder(
            Subscribing(), tmp_path / "bag", {}, {"/chatter": "std_msgs/msg/Header"}
        )
        for frame, received in (("first", 30), ("second", 10), ("third", 20), ("fourth", 40)):
            data = serialize_message(Header(frame_id=frame))
            callbacks[0](data, {"received_timestamp": received})
        recorder.close()
    finally:
        probe.close()
    with AnyReader([tmp_path / "bag"]) as reader:
        read = [
            (reader.deserialize(data, connection.msgtype).frame_id, received)
            for connection, received, data in reader.messages()
        ]
    assert read == [("first", 30), ("second", 31), ("third", 32), ("fourth", 40)]


def test_a_topic_of_a_package_that_is_not_installed_is_left_out():
    assert _message_type("no_such_msgs/msg/Thing") is None
    assert _message_type("std_msgs/msg/NoSuchThing") is None
    assert _message_type("std_msgs/msg/Header") is Header
