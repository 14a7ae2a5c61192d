# SPDX-License-Identifier: Apache-2.0
"""What preflight hears of others over DDS: heartbeats with their hosts, and a camera's topic."""

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from probe import DEADLINE
from sensor_msgs.msg import Image

from vjepa2_ros.preflight.camera import camera_findings
from vjepa2_ros.preflight.finding import Status
from vjepa2_ros.ros.conversions import image_message
from vjepa2_ros.ros.qos import LATEST
from vjepa2_ros.stack.listening import hosts_of_nodes, read_topic

PERIOD = 0.05


@pytest.fixture
def repeat(bench):
    """Publishes a message from the probe again and again: `repeat(topic, qos, make)`."""
    made = []

    def begin(message_type, topic, qos, make):
        publisher = bench.node.create_publisher(message_type, topic, qos)
        timer = bench.node.create_timer(PERIOD, lambda: publisher.publish(make()))
        made.append((publisher, timer))

    yield begin
    for publisher, timer in made:
        bench.run(lambda timer=timer: bench.node.destroy_timer(timer))
        bench.run(lambda publisher=publisher: bench.node.destroy_publisher(publisher))


def test_the_host_of_a_node_is_seen_by_its_heartbeat(repeat):
    status = DiagnosticStatus(
        name="/cell/encoder_node", values=[KeyValue(key="instance", value="gpu-computer:7:0a0a")]
    )
    repeat(DiagnosticArray, "/diagnostics", 10, lambda: DiagnosticArray(status=[status]))
    hosts = hosts_of_nodes(DEADLINE, lambda found: "gpu-computer" in found)
    assert hosts["gpu-computer"] == {"/cell/encoder_node"}


def now(bench):
    return 1e-9 * bench.node.get_clock().now().nanoseconds


@pytest.mark.parametrize(("delay", "status"), [(0.0, Status.OK), (60.0, Status.FAIL)])
def test_images_of_a_topic_are_judged_by_the_age_of_their_stamps(repeat, bench, delay, status):
    pixels = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    topic = f"/cell/delayed_{delay:.0f}/image_raw"
    repeat(Image, topic, LATEST, lambda: image_message(pixels, now(bench) - delay, "camera"))
    reading = read_topic(topic, DEADLINE, 0.5)
    found = {finding.check: finding for finding in camera_findings(reading, 10.0, 5.0)}
    assert found["image age"].status is status
    assert (reading.width, reading.height) == (64, 48)


def test_a_topic_without_images_is_told():
    assert "no image" in read_topic("/cell/nothing", 0.2, 0.2)
    assert isinstance(read_topic("/not a topic", 0.2, 0.2), str)
