# SPDX-License-Identifier: Apache-2.0
"""The client of a running stack: the probe offers the service that it asks."""

import os
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest
from probe import Probe
from rclpy.task import Future
from std_srvs.srv import Trigger

from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.ros.conversions import compressed_image
from vjepa2_ros.settings.declaration import parameters_of
from vjepa2_ros.settings.planning import PlannerNodeSettings
from vjepa2_ros.srv import SetGoal
from vjepa2_ros.stack import client
from vjepa2_ros.stack.client import ClientError, StackClient, read_images


@pytest.fixture
def offer():
    """Offers a service with an answer; yields a function that returns how to withdraw it.

    By a probe of its own: a callback that never ends would block all others of a shared one.
    """
    probe = Probe("/asked")

    def serve(answer, service_type=Trigger, name="cancel"):
        service = probe.serve(service_type, name, answer)
        return lambda: probe.run(lambda: probe.node.destroy_service(service))

    yield serve
    probe.close()


async def never(request, response):
    return await Future()


def test_an_answer_is_waited_for_longer_than_a_planner_may_take_for_it():
    longest = parameters_of(PlannerNodeSettings)["encode_timeout"].maximum
    assert client.ANSWER_TIMEOUT > longest + 10.0


def test_the_answer_of_a_service_is_handed_over(offer):
    def answer(request, response):
        response.success, response.message = True, "cancelled by the probe"
        return response

    offer(answer)
    with StackClient("/asked") as stack:
        assert stack.cancel().message == "cancelled by the probe"


def test_a_service_that_goes_away_before_it_answers_ends_the_wait(offer):
    asked = threading.Event()

    async def never_again(request, response):
        asked.set()
        return await Future()

    withdraw = offer(never_again)
    threading.Thread(target=lambda: asked.wait(30.0) and withdraw(), daemon=True).start()
    with StackClient("/asked") as stack, pytest.raises(ClientError, match="cancel went away"):
        stack.cancel()


def test_a_service_that_never_answers_ends_the_wait_at_the_deadline(offer, monkeypatch):
    monkeypatch.setattr(client, "ANSWER_TIMEOUT", 1.0)
    offer(never)
    with StackClient("/asked") as stack, pytest.raises(ClientError, match="no answer within 1 s"):
        stack.cancel()


IMAGE = compressed_image(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes())


def test_the_code_of_a_refusal_is_handed_over(offer):
    def answer(request, response):
        response.reason, response.message = int(Reason.IMAGE_TOO_LARGE), "too large"
        return response

    offer(answer, SetGoal, "set_goal")
    with StackClient("/asked") as stack:
        refused = stack.set_goal([IMAGE])
    assert not refused.accepted
    assert (refused.reason, refused.message) == (Reason.IMAGE_TOO_LARGE, "too large")


def test_a_code_of_a_later_version_is_no_error(offer):
    def answer(request, response):
        response.accepted, response.reason, response.goal_id = True, 9999, "goal-1"
        return response

    offer(answer, SetGoal, "set_goal")
    with StackClient("/asked") as stack:
        accepted = stack.set_goal([IMAGE])
    assert accepted == client.Answer(True, "", Reason.NONE, "goal-1")


def test_an_answer_cannot_steer_the_terminal(offer):
    def answer(request, response):
        response.success, response.message = True, "\x1b[2Jcancelled\x07\r\x9b1m, an umlaut: ä"
        return response

    offer(answer)
    with StackClient("/asked") as stack:
        message = stack.cancel().message
    assert message == "\\x1b[2Jcancelled\\x07\\r\\x9b1m, an umlaut: ä"


@pytest.mark.parametrize(
    "fields", [{"steps": [-1]}, {"steps": [2**32]}, {"steps": ["many"]}, {"gripper": ["\udcff"]}]
)
def test_a_goal_that_no_message_can_hold_is_a_client_error(offer, fields):
    offer(lambda request, response: response, SetGoal, "set_goal")
    with StackClient("/asked") as stack, pytest.raises(ClientError, match="cannot be sent"):
        stack.set_goal([IMAGE], **fields)


def test_a_request_that_is_too_large_is_not_sent(monkeypatch):
    monkeypatch.setattr(client, "MAX_BYTES", 2 * len(IMAGE.data) - 1)
    with StackClient("/asked") as stack, pytest.raises(ClientError, match="MB together"):
        stack.set_goal([IMAGE, IMAGE])


def test_a_namespace_that_is_none_is_a_client_error():
    with pytest.raises(ClientError, match="no such"):
        StackClient("no such/name space")


def test_words_of_the_command_line_are_none_of_ros(monkeypatch):
    """One that is no text was once reported as a namespace that no node can have."""
    monkeypatch.setattr(sys, "argv", ["vjepa2-ros", "goal", "--gripper", "\udcff"])
    with StackClient("/asked"):
        pass


def test_without_a_home_the_error_says_what_to_set():
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    environment.pop("ROS_LOG_DIR", None)
    ended = subprocess.run(
        [sys.executable, "-m", "vjepa2_ros.cli.main", "goal", "--cancel"],
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1 and "set HOME, or ROS_LOG_DIR" in ended.stderr


# Files --------------------------------------------------------------------------------------


def test_image_files_become_messages_as_they_are(tmp_path):
    (tmp_path / "goal.png").write_bytes(bytes(IMAGE.data))
    (message,) = read_images([tmp_path / "goal.png"])
    assert message == IMAGE and message.format == "png"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "goal.png: an empty file cannot be decoded"),
        (b"# a text", "use a JPEG, PNG or WebP"),
        (b"GIF89a" + bytes(100), "an image in GIF format cannot be decoded"),
        (b"\xff\xd8\xff broken", "the image's header cannot be decoded"),
    ],
)
def test_a_file_that_is_no_image_is_refused_before_anything_is_sent(tmp_path, content, text):
    (tmp_path / "goal.png").write_bytes(content)
    with pytest.raises(ClientError, match=text):
        read_images([tmp_path / "goal.png"])


def test_a_file_that_is_too_large_is_refused_without_reading_it(tmp_path):
    with open(tmp_path / "goal.png", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ClientError, match="goal.png has 1099512 MB, more than 100"):
        read_images([tmp_path / "goal.png"])


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/dev/zero", "not a regular file"),
        ("/", "not a regular file"),
        ("/absent.png", "No such file"),
        ("a\x00b", "null"),
        ("\x1b[2J.png", r"cannot read \\x1b\[2J.png: No such"),
    ],
)
def test_a_path_that_is_no_file_is_refused(path, text):
    with pytest.raises(ClientError, match=text):
        read_images([path])
