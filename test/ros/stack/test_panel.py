# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser, from the upload of a picture to its end."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import urllib.request

import cv2
import pytest
from std_srvs.srv import Trigger

from stack import browser as browsers
from vjepa2_ros.execution.goal_status import TERMINAL, GoalState
from vjepa2_ros.msg import PlanningStatus, RobotState
from vjepa2_ros.ros.deadlines import END_WITH_PARENT_OPTION as OPTION
from vjepa2_ros.settings.simulator import CAMERA_POSE
from vjepa2_ros.simulation.simulator import Simulator
from vjepa2_ros.srv import InjectFault
from vjepa2_ros.stack.process_group import ProcessGroup
from vjepa2_ros.tasks import load_task
from vjepa2_ros.tasks.task import TaskOptions, draw_episode

DEADLINE = 180.0
SCREENSHOTS = os.environ.get("PANEL_SCREENSHOTS")
"""Folder that screenshots of the page are kept in, where it is set."""

if browsers.program() is None:
    pytest.skip("CHROMIUM IS ABSENT: the page is not opened", allow_module_level=True)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def page(stack, tmp_path_factory):
    """The page beside the simulated stack, in a browser."""
    port = free_port()
    with ProcessGroup() as group:
        group.start_node("visualizer_node", {"camera_pose": list(CAMERA_POSE)}, vital=False)
        words = [sys.executable, "-m", "vjepa2_ros.cli.main", "panel", "--port", str(port)]
        group.start("panel", words)
        group.wait_for_line("panel", "the page is at", DEADLINE)
        url = f"http://127.0.0.1:{port}"
        size = (1500, 950) if SCREENSHOTS else (800, 600)
        with browsers.Browser(url, tmp_path_factory.mktemp("browser"), size) as browser:
            browser.wait(GoalState(stack.messages("status")[-1].state).name, DEADLINE)
            yield browser


@pytest.fixture(autouse=True)
def no_goal_left(stack, page):
    yield
    page.click("Goal")
    page.click("Clear the list")
    stack.call(Trigger, "cancel", Trigger.Request())
    stack.wait("robot_state", lambda state: not state.moving)


def keep(page, name):
    if SCREENSHOTS:
        page.screenshot(os.path.join(SCREENSHOTS, f"{name}.png"))


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """Of the scene of the stack, with the hand somewhere else."""
    path = tmp_path_factory.mktemp("pictures") / "goal.png"
    episode = draw_episode(load_task("reach"), Simulator(), 2, TaskOptions())
    cv2.imwrite(str(path), cv2.cvtColor(episode.subgoals[-1].image, cv2.COLOR_RGB2BGR))
    return path


def test_a_picture_is_uploaded_set_as_the_goal_and_followed(page, stack, picture):
    page.upload(picture)
    page.wait("Remove")
    keep(page, "panel_goal")
    mark = stack.mark("status")
    page.click("Set the goal")
    said = page.wait("goal ✓")
    # The stack may have had others before.
    pursued = stack.wait("status", lambda s: s.goal_id and s.state not in TERMINAL, after=mark)
    goal_id = pursued.goal_id
    page.wait(goal_id)
    assert "1 sub-goal(s)" in said
    page.click("Views")
    page.wait("camera, goal, difference")
    stack.wait("status", lambda s: s.goal_id == goal_id and s.step >= 2, after=mark)
    keep(page, "panel")
    stack.wait("status", lambda s: s.goal_id == goal_id and s.step >= 4, after=mark)
    page.click("Energy")
    page.wait("image to command")
    keep(page, "panel_energy")
    # The planner of this stack never calls a goal reached: all steps are made.
    page.wait("STEP_LIMIT")
    end = stack.wait("status", lambda s: s.goal_id == goal_id and s.state in TERMINAL, after=mark)
    first = stack.wait("status", lambda s: s.goal_id == goal_id and s.step == 1, after=mark)
    assert end.energy < 0.5 * first.energy


def test_the_list_takes_the_cameras_picture_too_and_forgets_what_is_removed(page):
    page.click("Add the camera's picture")
    page.wait("Remove")
    page.click("Add the camera's picture")
    page.wait("sub-goal 2")
    page.click("Remove")
    page.wait_until_gone("sub-goal 2")
    page.wait("sub-goal 1")
    page.wait("Remove")
    page.click("Clear the list")
    page.click("Set the goal")
    page.wait("add a picture first")


def test_what_is_no_picture_is_refused_with_the_reason(page, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    page.upload(tmp_path / "broken.png")
    page.wait("save it again")
    assert "Remove" not in page.text()


def test_the_stop_halts_the_robot_and_ends_the_goal(page, stack):
    page.click("Add the camera's picture")
    page.wait("Remove")
    page.click("Set the goal")
    page.wait("goal ✓")
    stack.wait("status", lambda s: s.step >= 1, after=stack.mark("status"))
    mark = stack.mark("status")
    page.click("STOP THE ROBOT")
    page.wait("halt ✓")
    stack.wait("status", lambda s: s.state == PlanningStatus.STOPPED, after=mark)
    page.wait("STOPPED")


def test_a_fault_is_shown_and_can_be_reset(page, stack):
    """A jump of the measured state, which latches a fault also at rest."""
    request = InjectFault.Request(fault="state_jumped", active=True)
    assert stack.call(InjectFault, "simulator/inject_fault", request).success
    page.wait("FAULT STATE")
    keep(page, "panel_fault")
    assert stack.call(InjectFault, "simulator/inject_fault", InjectFault.Request()).success
    page.click("Reset the fault")
    page.wait("reset_fault ✓")
    # The way back is a jump as well.
    page.wait_until_gone("FAULT")
    stack.wait("robot_state", lambda s: not s.fault_reason and s.mode == RobotState.READY)


def test_the_page_is_served_on_this_machine_alone_and_not_beside_another(page, stack):
    with socket.create_server(("127.0.0.1", 0)) as taken, ProcessGroup() as group:
        port = str(taken.getsockname()[1])
        words = [sys.executable, "-m", "vjepa2_ros.cli.main", "panel", "--port", port]
        group.start("second", words)
        assert group.wait_for_end("second", DEADLINE) == 1
        assert "choose another --port" in group.processes["second"].tail()


def test_without_a_port_the_page_is_at_the_first_free_one():
    with contextlib.ExitStack() as taken, ProcessGroup() as group:
        # Unless somebody else has it anyway.
        with contextlib.suppress(OSError):
            taken.enter_context(socket.create_server(("127.0.0.1", 8080)))
        group.start("panel", [sys.executable, "-m", "vjepa2_ros.cli.main", "panel"])
        url = group.wait_for_line("panel", "the page is at", DEADLINE).split()[-1]
        assert re.fullmatch(r"http://127\.0\.0\.1:80(8[1-9]|9[0-9])", url), url
        assert b"<html" in urllib.request.urlopen(url, timeout=DEADLINE).read()


def test_the_page_of_a_launch_ends_with_it_also_where_that_is_killed():
    panel = [sys.executable, "-m", "vjepa2_ros.cli.main", "panel", "--port", str(free_port())]
    # A launch file's process, which has the page as its child and would hold the output open.
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess; subprocess.run({panel!r} + {[OPTION]!r})"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert any("the page is at" in line for line in parent.stdout)
    parent.kill()
    # Ends only once no process has the output any more.
    assert "Traceback" not in parent.communicate(timeout=DEADLINE)[0]
