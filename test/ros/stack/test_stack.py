# SPDX-License-Identifier: Apache-2.0
"""The whole simulated stack: the way of a goal through all nodes, and what ends it."""

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from policy import allowed, graph_of
from sensor_msgs.msg import CompressedImage
from std_srvs.srv import Trigger

from vjepa2_ros.execution.goal_status import TERMINAL
from vjepa2_ros.msg import Latent, PlanningStatus, SimulatorTarget
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.ros.compatibility import own_build
from vjepa2_ros.ros.conversions import compressed_image, image_array, seconds
from vjepa2_ros.ros.image_transport import COMPRESSED_TOPIC
from vjepa2_ros.ros.qos import LATCHED
from vjepa2_ros.settings.cell import Workspace
from vjepa2_ros.settings.stack import MANAGER, managed_nodes
from vjepa2_ros.srv import EncodeImages, SetGoal
from vjepa2_ros.stack.client import StackClient
from vjepa2_ros.stack.reach import DISCOVERY_RANGE, PROFILES, on_this_machine


def encoded(image, suffix=".png"):
    done, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert done
    return compressed_image(data.tobytes())


def camera_image(stack):
    return image_array(stack.wait("camera/image_raw"))


def set_goal(stack, images=None, steps=()):
    images = [encoded(camera_image(stack))] if images is None else images
    return stack.call(SetGoal, "set_goal", SetGoal.Request(images=images, steps=list(steps)))


def status_of(goal_id, *states):
    return lambda status: status.goal_id == goal_id and status.state in states


@pytest.fixture(autouse=True)
def no_goal_left(stack):
    """Each test begins and ends with an idle planner and a robot at rest."""
    yield
    stack.call(Trigger, "cancel", Trigger.Request())
    stack.wait("robot_state", lambda state: not state.moving)


def test_every_node_says_that_it_is_active_and_how_fast_it_works(stack):
    for name in managed_nodes("simulation"):
        message = stack.wait("/diagnostics", lambda m, n=name: m.status[0].name == f"/vjepa2/{n}")
        values = {entry.key: entry.value for entry in message.status[0].values}
        assert values["lifecycle"] == "active" and float(values["rate_hz"]) >= 0.0


@pytest.mark.parametrize("name", [*managed_nodes("simulation"), MANAGER, "client"])
def test_the_policy_of_sros_allows_what_a_node_does_and_nothing_else(name, stack):
    """In this configuration: a real camera, compressed images and simulated time take more."""
    others = {
        ("subscriber", "/clock"),
        ("publisher", f"/vjepa2/{COMPRESSED_TOPIC}"),
        ("subscriber", f"/vjepa2/{COMPRESSED_TOPIC}"),
        ("client", "/vjepa2/camera_node/change_state"),
        ("client", "/vjepa2/camera_node/get_state"),
    }
    if name == "client":
        # They are there while it asks, takes a picture or follows a goal.
        services = ("set_goal", "cancel", "stop", "halt", "reset_fault")
        topics = ("camera/image_raw", "robot_state", "status")
        others |= {("client", f"/vjepa2/{service}") for service in services}
        others |= {("subscriber", f"/vjepa2/{topic}") for topic in topics}
    permitted = allowed(name, "/vjepa2")
    with StackClient() as client:
        if name == "client":
            client.cancel()  # another test may have left a goal
            assert not client.cancel().accepted
        stack.wait_until(
            lambda: permitted - others <= graph_of(stack.node, name, "/vjepa2") <= permitted
        )


def test_images_are_rgb_of_the_configured_size_with_a_calibrated_camera(stack):
    image = camera_image(stack)
    assert image.shape == (256, 256, 3) and image.std() > 5
    info = stack.wait("camera/camera_info")
    assert (info.width, info.height) == (256, 256) and info.k[0] > 0


def test_a_latent_carries_the_stamp_of_its_image_and_the_name_of_its_model(stack):
    def is_of_an_image_seen(latent):
        images = stack.messages("camera/image_raw")
        return seconds(latent.header.stamp) in {seconds(m.header.stamp) for m in images}

    latent = stack.wait("latent", is_of_an_image_seen)
    assert latent.model and latent.encode_seconds > 0
    assert latent.encoding == Latent.FLOAT16
    values = np.frombuffer(latent.data, "<f2")
    assert len(values) == latent.rows * latent.columns * latent.channels
    assert np.isfinite(values).all()


def test_a_goal_leads_to_commands_that_name_it_and_the_image_they_come_from(stack):
    images, states = stack.mark("camera/image_raw"), stack.mark("robot_state")
    commands, statuses = stack.mark("command"), stack.mark("status")
    answer = set_goal(stack, steps=[3])
    assert answer.accepted, answer.message
    end = stack.wait("status", status_of(answer.goal_id, *TERMINAL), statuses)
    assert (end.state, end.reason) == (PlanningStatus.STEP_LIMIT, Reason.ALL_STEPS_MADE)
    assert end.step == 3
    assert np.isfinite([end.energy, end.predicted_energy]).all() and end.plan_seconds > 0

    sent = stack.messages("command", commands)
    assert [command.goal_id for command in sent] == [answer.goal_id] * 3
    sequence = [command.sequence for command in sent]
    assert sequence == list(range(sequence[0], sequence[0] + 3))
    assert {command.header.frame_id for command in sent} == {"base"}
    captured = {seconds(m.header.stamp) for m in stack.messages("camera/image_raw", images)}
    assert {seconds(command.header.stamp) for command in sent} <= captured
    seen = stack.messages("robot_state", states)
    assert any(state.moving and state.goal_id == answer.goal_id for state in seen)
    for earlier, later in zip(sent, sent[1:], strict=False):
        done = [s for s in seen if s.sequence == earlier.sequence and not s.moving]
        assert seconds(later.header.stamp) > seconds(done[0].header.stamp), (
            "planned from an image taken before the last step was done"
        )
    last = stack.wait("robot_state", lambda state: not state.moving)
    target, reached = sent[-1].pose.position, last.pose.position
    box = Workspace()
    wanted = np.clip([target.x, target.y, target.z], box.lower, box.upper)
    np.testing.assert_allclose([reached.x, reached.y, reached.z], wanted, atol=0.03)


def test_the_status_is_latched_for_those_who_come_later(stack):
    answer = set_goal(stack, steps=[1])
    stack.wait("status", status_of(answer.goal_id, *TERMINAL), after=0)
    received = []
    stack.node.create_subscription(PlanningStatus, "status", received.append, LATCHED)
    stack.wait_until(lambda: received)
    assert received[0].goal_id == answer.goal_id


def test_a_sequence_of_goal_images_is_pursued_one_after_the_other(stack):
    mark = stack.mark("status")
    image = encoded(camera_image(stack), ".jpg")
    answer = set_goal(stack, [image, image], [1, 2])
    assert answer.accepted, answer.message
    stack.wait("status", status_of(answer.goal_id, PlanningStatus.STEP_LIMIT), mark)
    moving = [s for s in stack.messages("status", mark) if s.state == PlanningStatus.MOVING]
    subgoals = {status.step: status.subgoal for status in moving}
    assert subgoals == {1: 0, 2: 1, 3: 1} and moving[0].subgoals == 2


def test_a_goal_image_that_cannot_be_decoded_is_refused_with_its_number(stack):
    commands = stack.mark("command")
    good = encoded(camera_image(stack))
    broken = CompressedImage(format="png", data=b"no image at all")
    answer = set_goal(stack, [good, broken])
    assert not answer.accepted and answer.goal_id == ""
    assert "image 2 of 2" in answer.message and "JPEG, PNG or WebP" in answer.message
    assert stack.messages("command", commands) == []


def test_a_client_finds_a_stack_that_stays_on_this_machine_without_any_setting(stack):
    """`up` and `demo` keep a simulated stack here; `goal` is started in another shell."""
    ranged = {k: v for k, v in os.environ.items() if k not in (DISCOVERY_RANGE, *PROFILES)}
    kept = on_this_machine(own_build()["rmw"], own_build()["ros_distro"], ranged)
    assert kept.items() <= os.environ.items(), "the stack is not started as `up` starts it"
    goal = subprocess.run(
        [sys.executable, "-m", "vjepa2_ros.cli.main", "goal", "--cancel"],
        env=ranged,
        capture_output=True,
        text=True,
    )
    assert goal.returncode == 1 and "there is no goal to cancel" in goal.stderr


def test_a_tiny_goal_image_is_refused_with_the_size_it_needs(stack):
    answer = set_goal(stack, [encoded(np.zeros((16, 20, 3), np.uint8))])
    assert not answer.accepted
    assert "image 1 of 1" in answer.message and "20x16" in answer.message and "32" in answer.message


def test_a_goal_without_image_is_refused(stack):
    answer = set_goal(stack, [])
    assert not answer.accepted and answer.reason == Reason.NO_GOAL_IMAGE


def test_steps_that_do_not_fit_the_images_are_refused(stack):
    answer = set_goal(stack, steps=[1, 2])
    assert not answer.accepted and answer.reason == Reason.STEPS_MISMATCH


def test_a_refused_goal_leaves_the_one_in_flight_alone(stack):
    first = set_goal(stack, steps=[100])
    assert not set_goal(stack, [CompressedImage(data=b"x")]).accepted
    stack.wait("status", status_of(first.goal_id, PlanningStatus.MOVING))


def test_a_new_goal_replaces_the_one_in_flight(stack):
    mark = stack.mark("status")
    first = set_goal(stack, steps=[100])
    stack.wait("status", status_of(first.goal_id, PlanningStatus.MOVING), mark)
    second = set_goal(stack, steps=[2])
    assert second.accepted and second.goal_id != first.goal_id
    stack.wait("status", status_of(first.goal_id, PlanningStatus.REPLACED), mark)
    commands = stack.mark("command")
    stack.wait("status", status_of(second.goal_id, PlanningStatus.STEP_LIMIT), mark)
    late = [c for c in stack.messages("command", commands) if c.goal_id == first.goal_id]
    assert late == []


def test_cancel_ends_the_goal_and_the_robot_holds(stack):
    mark = stack.mark("status")
    goal = set_goal(stack, steps=[100])
    stack.wait("status", status_of(goal.goal_id, PlanningStatus.MOVING), mark)
    answer = stack.call(Trigger, "cancel", Trigger.Request())
    assert answer.success and goal.goal_id in answer.message
    stack.wait("status", status_of(goal.goal_id, PlanningStatus.CANCELLED), mark)
    commands = stack.mark("command")
    first = seconds(stack.wait("robot_state", lambda state: not state.moving).header.stamp)
    # Half a second to brake, then it must not move.
    held, again = (
        stack.wait("robot_state", lambda s, t=first + wait: seconds(s.header.stamp) > t)
        for wait in (0.5, 1.0)
    )
    for axis in "xyz":
        assert abs(getattr(held.pose.position, axis) - getattr(again.pose.position, axis)) < 0.005
    assert stack.messages("command", commands) == []


def test_cancel_without_a_goal_says_so(stack):
    answer = stack.call(Trigger, "cancel", Trigger.Request())
    assert not answer.success and "no goal" in answer.message


def test_stop_halts_the_robot_at_once_and_a_new_goal_goes_on(stack):
    mark, targets = stack.mark("status"), stack.mark("simulator/target")
    goal = set_goal(stack, steps=[100])
    stack.wait("robot_state", lambda state: state.moving and state.goal_id == goal.goal_id)
    answer = stack.call(Trigger, "stop", Trigger.Request())
    assert answer.success and "halted" in answer.message
    stack.wait("status", status_of(goal.goal_id, PlanningStatus.STOPPED), mark)
    stack.wait("simulator/target", lambda t: t.mode == SimulatorTarget.HOLD, targets)
    stack.wait("robot_state", lambda state: not state.moving)
    targets = stack.messages("simulator/target", targets)
    told = [target.mode for target in targets if target.mode != SimulatorTarget.ALIVE]
    assert told[-1] == SimulatorTarget.HOLD
    following = set_goal(stack, steps=[1])
    assert following.accepted, following.message
    stack.wait("status", status_of(following.goal_id, PlanningStatus.STEP_LIMIT), mark)


@pytest.mark.parametrize("service", ["stop", "halt"])
def test_no_goal_set_right_after_an_acknowledged(service, stack):
    for _ in range(20):
        mark = stack.mark("status")
        assert stack.call(Trigger, service, Trigger.Request()).success
        following = set_goal(stack, steps=[100])
        assert following.accepted, following.message
        stack.wait("status", status_of(following.goal_id, PlanningStatus.MOVING), mark)
        states = {s.state for s in stack.messages("status", mark) if s.goal_id == following.goal_id}
        assert PlanningStatus.STOPPED not in states


def test_a_goal_is_published_with_its_images_and_latents(stack):
    image = encoded(camera_image(stack))
    answer = set_goal(stack, [image], [1])
    goal = stack.wait("goal", lambda goal: goal.goal_id == answer.goal_id, after=0)
    assert bytes(goal.images[0].data) == bytes(image.data)
    assert len(goal.latents) == 1 and list(goal.gripper) == ["planned"]
    shown = stack.messages("goal_image/compressed")[-1]
    assert bytes(shown.data) == bytes(image.data)


def test_the_encoder_gives_one_latent_for_each_image(stack):
    image = encoded(camera_image(stack))
    answer = stack.call(EncodeImages, "encode_images", EncodeImages.Request(images=[image] * 2))
    assert answer.success and len(answer.latents) == 2
    assert answer.latents[0].data == answer.latents[1].data
