# SPDX-License-Identifier: Apache-2.0
"""The node that sees what is done in the camera's images; the probe is its camera."""

import json

import numpy as np
import pytest
import video_checkpoints as tiny
from diagnostic_msgs.msg import DiagnosticArray
from policy import allowed, graph_of
from probe import Probe
from sensor_msgs.msg import Image

from vjepa2_ros.msg import Clip
from vjepa2_ros.ros.conversions import image_message, seconds
from vjepa2_ros.ros.qos import LATEST, VIEW
from vjepa2_ros.stack.process_group import ProcessGroup

FRAMES, RATE = 8, 10.0
DEADLINE = 180.0


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Encoder, probe and labels in the published layouts."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "labels.json").write_text(json.dumps([f"label {n}" for n in range(174)]))
    return {
        "encoder": str(tiny.backbone(folder / "tiny.pt")),
        "probe": str(tiny.probe(folder / "probe.pt")),
        "labels": str(folder / "labels.json"),
        "heads": tiny.HEADS,
    }


@pytest.fixture(scope="module")
def watching(files):
    """A probe that is the camera beside a clip_node, at three times the rate of the clips."""
    probe = Probe("/clips")
    probe.listen(Clip, "clip", VIEW)
    probe.listen(DiagnosticArray, "/diagnostics", 50)
    images = probe.node.create_publisher(Image, "camera/image_raw", LATEST)
    pictures = tiny.frames(100)
    numbers = iter(range(10**9))

    def publish():
        picture = pictures[next(numbers) % len(pictures)]
        images.publish(image_message(picture, probe.now(), "camera"))

    timer = probe.node.create_timer(1 / (3 * RATE), publish)
    parameters = {**files, "frames": FRAMES, "frame_rate": RATE, "clip_rate": 5.0, "top": 3}
    try:
        with ProcessGroup() as group:
            group.start_node("clip_node", parameters, namespace="/clips")
            yield probe
    finally:
        probe.run(lambda: probe.node.destroy_timer(timer))
        probe.close()


def test_clips_come_with_their_stamps_embedding_and_labels(watching):
    first = watching.wait("clip", after=0)
    second = watching.wait("clip", lambda clip: clip.header.stamp != first.header.stamp)
    assert first.frames == FRAMES and first.header.frame_id == "camera"
    # Seven periods of the clip's own rate, whatever the camera's is.
    span = seconds(first.header.stamp) - seconds(first.first)
    assert span == pytest.approx((FRAMES - 1) / RATE, abs=0.15)
    embedding = np.array(first.embedding)
    assert embedding.shape == (64,) and np.isfinite(embedding).all() and embedding.std() > 0
    assert len(first.labels) == 3 and first.labels[0].startswith("label ")
    shares = list(first.probabilities)
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1
    assert first.model == second.model and len(first.model) == 16
    assert 0 < first.encode_seconds < DEADLINE


def test_rate_and_age_are_in_the_diagnostics(watching):
    def reported(message):
        status = message.status[0]
        values = {entry.key: entry.value for entry in status.values}
        return status.name == "/clips/clip_node" and float(values.get("clip_age_s", -1)) >= 0

    message = watching.wait("/diagnostics", reported)
    values = {entry.key: entry.value for entry in message.status[0].values}
    assert float(values["rate_hz"]) > 0 and "target_encoder" in values["model"]
    assert values["lifecycle"] == "active" and values["label"].startswith("label ")


def test_it_publishes_and_offers_what_the_policy_of_sros_2_allows(watching):
    others = {("subscriber", "/clips/camera/image_raw/compressed"), ("subscriber", "/clock")}
    expected = allowed("clip_node", "/clips") - others
    watching.wait_until(lambda: graph_of(watching.node, "clip_node", "/clips") == expected)


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"encoder": "/no/such.pt"}, "there is no checkpoint at /no/such.pt"),
        ({"probe": "/no/such.pt"}, "there is no file /no/such.pt"),
        ({"heads": 7}, "describes no probe that works"),
        ({"labels": "/no/such.json"}, "/no/such.json cannot be read"),
        ({"encoder": "tabletop"}, "the probe is for an encoder of 64 channels"),
    ],
)
def test_what_does_not_fit_ends_the_node_with_what_to_do(files, changes, text):
    with ProcessGroup() as group:
        group.start_node("clip_node", {**files, **changes}, namespace="/misfit")
        assert group.wait_for_end("clip_node", DEADLINE) == 1
        said = group.processes["clip_node"].tail()
    assert text in said and "Traceback" not in said
