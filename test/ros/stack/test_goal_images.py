# SPDX-License-Identifier: Apache-2.0
"""Goal images that are too large, sent to the whole stack while it executes a goal."""

import time

import pytest
from huge_images import huge_jpeg, huge_png
from std_srvs.srv import Trigger

from stack.test_stack import camera_image, encoded, set_goal, status_of
from vjepa2_ros.msg import PlanningStatus
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.settings.stack import managed_nodes


@pytest.fixture
def goal(stack):
    """A goal that goes on for as long as the test."""
    mark = stack.mark("status")
    answer = set_goal(stack, steps=[1000])
    assert answer.accepted, answer.message
    stack.wait("status", status_of(answer.goal_id, PlanningStatus.MOVING), mark)
    yield answer.goal_id
    stack.call(Trigger, "cancel", Trigger.Request())
    stack.wait("robot_state", lambda state: not state.moving)


@pytest.mark.parametrize("make", [huge_png, huge_jpeg])
def test_a_huge_goal_image_is_refused_at_once_and_the_goal_goes_on(stack, goal, make):
    image = make()
    started = time.monotonic()
    answer = set_goal(stack, [image])
    assert time.monotonic() - started < 2.0
    assert not answer.accepted and answer.reason == Reason.IMAGE_TOO_LARGE

    mark = stack.mark("command")
    stack.wait("command", lambda command: command.goal_id == goal, mark)
    for name in managed_nodes("simulation"):
        alive = stack.wait("/diagnostics", lambda m, n=name: m.status[0].name == f"/vjepa2/{n}")
        values = {entry.key: entry.value for entry in alive.status[0].values}
        assert values["lifecycle"] == "active"


def test_a_request_of_a_thousand_images_is_refused_and_the_goal_goes_on(stack, goal):
    answer = set_goal(stack, [encoded(camera_image(stack), ".jpg")] * 1000)
    assert not answer.accepted and answer.reason == Reason.TOO_MANY_SUBGOALS
    mark = stack.mark("command")
    stack.wait("command", lambda command: command.goal_id == goal, mark)
