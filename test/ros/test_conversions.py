# SPDX-License-Identifier: Apache-2.0
"""Messages to arrays and back; no process is started."""

from array import array
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from vjepa2_ros.msg import Latent
from vjepa2_ros.robot.driver import RobotState
from vjepa2_ros.ros.conversions import (
    MessageError,
    duration,
    image_array,
    image_message,
    motion_command,
    robot_state,
    robot_state_message,
    seconds,
    stamp,
)
from vjepa2_ros.ros.latents import latent_message, latent_tensor
from vjepa2_ros.ros.truth import truth_message, truth_of
from vjepa2_ros.tasks.truth import Truth

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)


@pytest.mark.parametrize("time", [0.0, 1.5, 1795235193.843111980, 0.9999999999])
def test_stamps_keep_their_time(time):
    assert seconds(stamp(time)) == pytest.approx(time, abs=1e-6)
    assert 0 <= stamp(time).nanosec < 1_000_000_000
    assert seconds(duration(time)) == pytest.approx(time, abs=1e-6)


def test_an_image_comes_back_as_it_went():
    message = image_message(PIXELS, 12.5, "camera")
    assert message.header.frame_id == "camera" and seconds(message.header.stamp) == 12.5
    np.testing.assert_array_equal(image_array(message), PIXELS)


CONVERSIONS = {
    "bgr8": cv2.COLOR_RGB2BGR,
    "rgba8": cv2.COLOR_RGB2RGBA,
    "bgra8": cv2.COLOR_RGB2BGRA,
}


@pytest.mark.parametrize("encoding", CONVERSIONS)
def test_other_encodings_become_rgb(encoding):
    pixels = cv2.cvtColor(PIXELS, CONVERSIONS[encoding])
    message = Image(height=40, width=50, encoding=encoding, step=50 * pixels.shape[2],
                    data=array("B", pixels.tobytes()))  # fmt: skip
    np.testing.assert_array_equal(image_array(message), PIXELS)


def test_padded_rows_and_grey_images_are_understood():
    grey = PIXELS[..., 0]
    padded = np.zeros((40, 64), np.uint8)
    padded[:, :50] = grey
    message = Image(height=40, width=50, encoding="mono8", step=64,
                    data=array("B", padded.tobytes()))  # fmt: skip
    np.testing.assert_array_equal(image_array(message), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize(
    "change, text",
    [
        (dict(encoding="16UC1"), "encoding '16UC1' is not supported"),
        (dict(data=array("B", [1, 2, 3])), "holds 3 bytes"),
        (dict(step=10), "rows of 10 bytes"),
    ],
)
def test_an_image_that_cannot_be_used_is_refused(change, text):
    message = image_message(PIXELS, 0.0, "camera")
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(MessageError, match=text):
        image_array(message)


@pytest.mark.parametrize("half, tolerance", [(False, 0.0), (True, 1e-3)])
def test_a_latent_comes_back_as_it_went(half, tolerance):
    latent = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    message = latent_message(latent, (2, 3), "model", Header(), half)
    assert len(message.data) == 24 * (2 if half else 4)
    back = latent_tensor(message, (2, 3), 4, "model")
    torch.testing.assert_close(back, latent, atol=tolerance, rtol=tolerance)


def test_a_latent_message_that_nobody_filled_in_is_refused():
    with pytest.raises(MessageError, match="another model"):
        latent_tensor(Latent(), (2, 3), 4, "model")


def test_a_robot_state_comes_back_as_it_went():
    state = RobotState(np.array([0.4, 0.1, 0.2]), np.array([1.0, 0.0, 0.0, 0.0]), 0.25, 17.5)
    back = robot_state(robot_state_message(state, "base", moving=True))
    np.testing.assert_array_equal(back.position, state.position)
    np.testing.assert_array_equal(back.quaternion_xyzw, state.quaternion_xyzw)
    assert (back.gripper_closedness, back.stamp) == (0.25, 17.5)
    assert back.commanded_closedness is None
    told = replace(state, commanded_closedness=1.0)
    assert robot_state(robot_state_message(told, "base")).commanded_closedness == 1.0


def test_an_empty_command_becomes_one_that_the_gate_refuses():
    from vjepa2_ros.msg import Command

    command = motion_command(Command())
    assert command.goal_id == "" and command.sequence == 0


@pytest.fixture
def truth():
    return Truth(
        time=3.0,
        hand=np.array([0.5, -0.1, 0.3]),
        closedness=0.4,
        commanded_closedness=1.0,
        objects=np.array([[0.4, 0.1, 0.045], [0.6, -0.2, 0.125]]),
        tilts=np.array([0.0, 0.2]),
        held=np.array([False, True]),
        simulated_time=2.5,
    )


def test_the_truth_comes_back_as_it_went_with_the_time_of_its_stamp(truth):
    message = truth_message(truth, 12.5, "base")
    assert message.header.frame_id == "base" and list(message.objects) == ["cup", "box"]
    back = truth_of(message)
    assert back.time == 12.5 and back.closedness == 0.4 and back.commanded_closedness == 1.0
    for name in ("hand", "objects", "tilts", "held"):
        np.testing.assert_array_equal(getattr(back, name), getattr(truth, name), name)
    assert back.held.dtype == bool and back.simulated_time == 2.5


@pytest.mark.parametrize(
    "changes",
    [{"objects": ["box", "cup"]}, {"objects": []}, {"tilts": [0.0]}, {"held": []},
     {"positions": []}],
    ids=str,
)  # fmt: skip
def test_a_truth_about_other_objects_is_refused(truth, changes):
    message = truth_message(truth, 12.5, "base")
    for name, value in changes.items():
        setattr(message, name, value)
    with pytest.raises(MessageError, match="here the objects are cup, box"):
        truth_of(message)
