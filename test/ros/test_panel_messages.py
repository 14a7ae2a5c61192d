# SPDX-License-Identifier: Apache-2.0
"""Odd messages of anybody, which must not take the page, and its stop, away."""

import asyncio
import math
import socket
import time
from types import SimpleNamespace

import pytest
from sensor_msgs.msg import Image, JointState
from visualization_msgs.msg import Marker, MarkerArray

from vjepa2_ros.msg import PlanningStatus, RobotState
from vjepa2_ros.panel.page import UNCONFIRMED, Page
from vjepa2_ros.panel.serving import serve_page
from vjepa2_ros.stack.link import Answer

JOINTS = [f"fr3_joint{number}" for number in range(1, 8)]


class Link:
    """The newest messages, as the test gives them, and the calls of the page."""

    def __init__(self):
        self.messages, self.calls = {}, []

    def newest(self, name, after=0):
        number, message = self.messages.get(name, (0, None))
        return number, message if number > after else None

    def call(self, name, request, then):
        self.calls.append(SimpleNamespace(name=name, request=request, then=then))

    def come(self, name, message):
        number, _ = self.messages.get(name, (0, None))
        self.messages[name] = number + 1, message


@pytest.fixture
def link():
    return Link()


@pytest.fixture
def page(link):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = serve_page("127.0.0.1", port)
    yield Page(server, link)
    server.stop()


ODD = [
    ("status", PlanningStatus(step=1, energy=math.nan)),
    ("status", PlanningStatus(state=99, goal_id="goal-1", step=1)),
    ("joints", JointState(name=JOINTS, position=[math.nan] * 7)),
    ("joints", JointState(name=JOINTS, position=[0.0] * 3)),
    ("joints", JointState(name=["a"], position=[0.0])),
    ("image", Image(encoding="16UC1", height=4, width=4, step=8)),
    ("image", Image(encoding="mono8", height=1, width=1000, step=1000, data=bytes(1000))),
    ("difference", Image(encoding="rgb8", height=1, width=2000, step=6000, data=bytes(6000))),
    ("markers", MarkerArray(markers=[Marker(ns="x", type=Marker.LINE_LIST)])),
    ("robot_state", RobotState(fault_reason=65535, fault="<b>\n# big\n[a](b)")),
]


@pytest.mark.parametrize("name, message", ODD, ids=lambda value: str(value)[:12])
def test_an_odd_message_leaves_the_page_and_its_stop(page, link, name, message):
    link.come(name, message)
    page.update(1.0)
    link.come("status", PlanningStatus(state=PlanningStatus.IDLE, message="no goal"))
    page.update(1.2)
    assert "IDLE" in page._state.content
    page._trigger("halt")
    assert [call.name for call in link.calls] == ["halt"]


def test_what_cannot_be_shown_is_said_apart_from_the_answers(page, link):
    page._trigger("halt")
    link.calls[-1].then(Answer(False, "the brakes hold"))
    link.come("image", Image(encoding="16UC1", height=4, width=4, step=8))
    page.update(1.0)
    assert "cannot be shown" in page._problem.content
    assert "the brakes hold" in page._answer.content


def test_a_stop_without_an_answer_is_said_to_be_not_confirmed(page, link, monkeypatch):
    now = 100.0
    monkeypatch.setattr("vjepa2_ros.panel.page.time.monotonic", lambda: now)
    page._trigger("halt")
    link.calls[-1].then(Answer(True, "halted"))
    assert "✓" in page._answer.content
    page._trigger("halt")
    assert "not confirmed yet" in page._answer.content
    page.update(now + UNCONFIRMED + 0.1)
    assert "use the robot's own stop" in page._answer.content


def test_a_text_of_the_network_is_neither_markdown_nor_html(page, link):
    text = "<img src=x> **bold**\n# heading\n[a](b) {x}"
    link.come("status", PlanningStatus(state=PlanningStatus.IDLE, message=text))
    page.update(1.0)
    shown = page._state.content.split("\n", 1)[1]
    assert not set("<>*#[](){}") & set(shown.replace("&#", "").strip()), shown


def test_the_fingers_and_the_prefix_of_the_first_arm_stay(page, link):
    link.come("joints", JointState(name=JOINTS, position=[0.0] * 7))
    page.update(1.0)
    count = len(page._world._links)
    for number in range(3):
        names = [f"arm{number}_joint{k}" for k in range(1, 8)]
        link.come("joints", JointState(name=names, position=[0.0] * 7))
        page.update(2.0 + number)
    assert count == 13 and len(page._world._links) == count


def test_what_is_asked_of_the_list_is_done_in_the_order_in_which_it_was_asked(page):
    """A list that was cleared once lost the picture that was added after it."""
    done = []
    slow = page._in_turn(lambda: (time.sleep(0.2), done.append("clear")))
    quick = page._in_turn(done.append, lambda event: event)
    asyncio.run(slow(None))
    asyncio.run(quick("add"))
    page._actions.submit(lambda: None).result(timeout=60.0)
    assert done == ["clear", "add"]


def test_an_action_that_fails_is_shown(page):
    asyncio.run(page._in_turn(lambda: 1 // 0)(None))
    page._actions.submit(lambda: None).result(timeout=60.0)
    assert "unexpected" in page._answer.content and "ZeroDivisionError" in page._answer.content
