# SPDX-License-Identifier: Apache-2.0
"""The encoder by itself: the probe is its camera and whoever sends it goal images."""

import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from huge_images import huge_jpeg, huge_png
from probe import Probe
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image

from vjepa2_ros.msg import Latent
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.ros.conversions import compressed_image, image_message
from vjepa2_ros.ros.qos import LATEST
from vjepa2_ros.srv import EncodeImages
from vjepa2_ros.stack.process_group import ProcessGroup

PIXELS = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
PERIOD = 0.05


@pytest.fixture(scope="module")
def encoder(tiny_model):
    """A probe beside an active encoder that sees an image every 50 ms."""
    probe = Probe("/encoding")
    probe.listen(Latent, "latent", LATEST)
    images = probe.node.create_publisher(Image, "camera/image_raw", LATEST)
    timer = probe.node.create_timer(
        PERIOD, lambda: images.publish(image_message(PIXELS, probe.now(), "camera"))
    )
    try:
        with ProcessGroup() as group:
            group.start_node("encoder_node", {"checkpoint": str(tiny_model)}, namespace="/encoding")
            assert probe.change("encoder_node", "configure")
            assert probe.change("encoder_node", "activate")
            probe.wait("latent")
            yield probe
    finally:
        probe.run(lambda: probe.node.destroy_timer(timer))
        probe.close()


def png(image=PIXELS):
    return compressed_image(cv2.imencode(".png", image)[1].tobytes())


def encode(probe, images):
    """Answer of the encoder, and the longest time without a latent of the camera meanwhile [s]."""
    mark = max(0, probe.mark("latent") - 1)
    answer = probe.call(EncodeImages, "encode_images", EncodeImages.Request(images=images))
    probe.wait("latent")
    times = [m.header.stamp.sec + 1e-9 * m.header.stamp.nanosec
             for m in probe.messages("latent", mark)]  # fmt: skip
    return answer, float(np.diff(times).max())


def test_each_image_gets_its_latent(encoder):
    answer, _ = encode(encoder, [png(), png(255 - PIXELS), png()])
    assert answer.success and answer.reason == Reason.ACCEPTED
    first, second, third = answer.latents
    assert first.data == third.data != second.data


@pytest.mark.parametrize("make", [huge_png, huge_jpeg])
def test_a_huge_image_is_refused_at_once_and_the_camera_goes_on(encoder, make):
    image = make()
    encode(encoder, [png()])  # the client is known on both sides now
    started = time.monotonic()
    answer, gap = encode(encoder, [png(), image])
    assert time.monotonic() - started < 2.0
    assert not answer.success and answer.reason == Reason.IMAGE_TOO_LARGE
    assert "image 2 of 2" in answer.message and "max_image_megapixels" in answer.message
    assert len(answer.latents) == 0 and gap < 1.0


def test_the_limit_may_change_while_the_encoder_is_active(encoder):
    def set_limit(megapixels):
        change = Parameter("max_image_megapixels", value=megapixels).to_parameter_msg()
        request = SetParameters.Request(parameters=[change])
        answer = encoder.call(SetParameters, "encoder_node/set_parameters", request)
        assert answer.results[0].successful, answer.results[0].reason

    photograph = png(np.zeros((120, 120, 3), np.uint8))
    set_limit(0.01)
    answer, _ = encode(encoder, [photograph])
    assert answer.reason == Reason.IMAGE_TOO_LARGE and "0.01 million" in answer.message
    set_limit(25.0)
    assert encode(encoder, [photograph])[0].success


@pytest.mark.parametrize(
    ("data", "reason", "text"),
    [
        (b"", Reason.IMAGE_INVALID, "an empty file"),
        (b"text", Reason.IMAGE_INVALID, "use a JPEG, PNG or WebP"),
        (cv2.imencode(".bmp", PIXELS)[1].tobytes(), Reason.IMAGE_INVALID, "BMP"),
        (cv2.imencode(".png", PIXELS[:8, :8])[1].tobytes(), Reason.IMAGE_INVALID, "8x8"),
    ],
)
def test_of_a_request_with_one_bad_image_nothing_is_encoded(encoder, data, reason, text):
    answer, _ = encode(encoder, [png(), compressed_image(data), png()])
    assert not answer.success and answer.reason == reason and len(answer.latents) == 0
    assert answer.message.startswith("image 2 of 3: ") and text in answer.message


def test_a_request_without_an_image_is_refused(encoder):
    assert encode(encoder, [])[0].reason == Reason.NO_GOAL_IMAGE


def test_a_thousand_images_are_encoded_while_the_camera_goes_on(encoder):
    answer, gap = encode(encoder, [png()] * 1000)
    assert answer.success and len(answer.latents) == 1000
    assert gap < 1.0


def test_more_images_than_any_planner_sends_are_refused(encoder):
    assert encode(encoder, [png()] * 1001)[0].reason == Reason.TOO_MANY_SUBGOALS


def test_an_inactive_encoder_says_so(encoder):
    assert encoder.change("encoder_node", "deactivate")
    request = EncodeImages.Request(images=[png()])
    answer = encoder.call(EncodeImages, "encode_images", request)
    assert answer.reason == Reason.NODE_INACTIVE
    assert encoder.change("encoder_node", "activate")


def test_the_driver_of_another_camera_is_taken_by_remapping_alone(tiny_model):
    """Its images are padded YUV under other names; nothing but the topics is told to anybody."""
    probe = Probe("/foreign")
    probe.listen(Latent, "latent", LATEST)
    probe.listen(CameraInfo, "camera/camera_info", LATEST)
    remapped = [
        word
        for topic in ("image_raw", "camera_info")
        for word in ("-r", f"{topic}:=/foreign/camera/{topic}")
    ]
    driver = Path(__file__).with_name("fake_driver.py")
    try:
        with ProcessGroup() as group:
            group.start("usb_cam", [sys.executable, str(driver), "--ros-args", *remapped])
            group.start_node("encoder_node", {"checkpoint": str(tiny_model)}, namespace="/foreign")
            assert probe.change("encoder_node", "configure")
            assert probe.change("encoder_node", "activate")
            latent = probe.wait("latent")
            assert latent.header.frame_id == "usb_cam"
            # A model of the training's crop sees up to 1.35 times as wide as high.
            assert (latent.crop_top, latent.crop_height) == (0, 64)
            assert (latent.crop_left, latent.crop_width) == (5, 86)
            info = probe.wait("camera/camera_info")
            assert info.k[0] == 80.0 and info.header.frame_id == "usb_cam"
    finally:
        probe.close()
