# SPDX-License-Identifier: Apache-2.0
"""The planner node alone, with the probe as everything that it talks to.

What is decided about a goal is tested without ROS in test/unit/test_goal_execution.py; here is what
the node adds: messages, services, the worker thread, parameters.
"""

import threading
import time
from array import array
from pathlib import Path

import numpy as np
import pytest
from geometry_msgs.msg import Quaternion
from sensor_msgs.msg import CompressedImage
from std_srvs.srv import Trigger
from surroundings import Surroundings

from vjepa2_ros.msg import Goal, PlanningStatus
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.ros.conversions import seconds
from vjepa2_ros.ros.qos import LATCHED
from vjepa2_ros.stack.process_group import ProcessGroup
from vjepa2_ros.world_model.checkpoint import load_world_model

PARAMETERS = {
    "planner": "cem",
    "cem.samples": 8,
    "cem.iterations": 1,
    "cem.top_k": 2,
    "patience": 0,
    "steps_per_subgoal": 50,
    "step_duration": 0.5,
    "max_observation_age": 1.0,
    "encode_timeout": 1.0,
}


@pytest.fixture(scope="module")
def planner_process(bench, tiny_model):
    with ProcessGroup() as group:
        parameters = {"checkpoint": str(tiny_model), **PARAMETERS}
        process = group.start_node("planner_node", parameters, namespace="/bench")
        assert bench.change("planner_node", "configure")
        yield process


@pytest.fixture(scope="module")
def planner(planner_process, tiny_model):
    return load_world_model(tiny_model)


@pytest.fixture
def around(bench, planner):
    around = Surroundings(bench, planner)
    assert bench.change("planner_node", "activate")
    around.forget()
    yield around
    assert bench.change("planner_node", "deactivate")
    around.close()


def refused(around, reason, **request):
    """Set a goal that is refused for that reason; returns the answer."""
    answer = around.set_goal(**request)
    assert not answer.accepted and answer.goal_id == "" and answer.reason == reason, answer
    return answer


def faulty(message):
    """A state of the robot with a fault."""
    message.fault, message.fault_reason = "the probe fell over", int(Reason.STATE_STALE)
    return message


def refused_soon(around, reason):
    """The same, once the planner has noticed a change of its surroundings."""
    deadline = time.monotonic() + 30.0
    while (answer := around.set_goal()).reason != reason:
        assert time.monotonic() < deadline, answer
        if answer.accepted:
            around.probe.call(Trigger, "cancel", Trigger.Request())
    assert not answer.accepted
    return answer


# Goals that are refused ---------------------------------------------------------------------


def test_a_goal_before_the_first_image_is_refused_with_what_to_look_at(around):
    around.seeing = False
    around.forget()
    commands = around.commands()
    answer = refused(around, Reason.NO_IMAGE)
    assert "camera/image_raw" in answer.message and around.commands() == commands


def test_without_a_robot_state_the_robot_is_named_and_not_the_controller(around):
    around.feeling = False
    around.forget()
    answer = refused_soon(around, Reason.NO_ROBOT_STATE)
    assert "controller_node is up" in answer.message and "robot is on" in answer.message


def test_without_a_controller_a_goal_is_refused_with_what_to_bring_up(around):
    around.withdraw_controller()
    around.forget()
    answer = refused_soon(around, Reason.NODE_INACTIVE)
    assert "bring controller_node up" in answer.message


def test_a_goal_without_an_encoder_is_refused(around):
    around.accepted_goal()
    around.withdraw_encoder()
    answer = refused_soon(around, Reason.ENCODER_UNAVAILABLE)
    assert "encoder_node" in answer.message and "bring it up" in answer.message
    around.offer_encoder()


def test_a_goal_waits_for_an_encoder_that_is_being_discovered(around):
    """Right after the start of a stack, a goal was refused because of that."""
    around.accepted_goal()
    around.withdraw_encoder()
    refused_soon(around, Reason.ENCODER_UNAVAILABLE)
    offering = threading.Timer(0.5, around.offer_encoder)
    offering.start()
    answer = around.set_goal()
    offering.join()
    assert answer.accepted, answer


def test_the_encoders_refusal_is_passed_on_in_its_own_words(around):
    around.accepted_goal()
    around.encoder_answers = False
    answer = refused(around, Reason.IMAGE_INVALID)
    assert answer.message == "image 1 of 1: the probe does not like it"


def test_a_fault_of_the_controller_forbids_a_new_goal(around):
    goal = around.accepted_goal()
    around.change_state = faulty
    around.wait_status(goal, PlanningStatus.FAILED, Reason.CONTROLLER_FAULT)
    answer = refused(around, Reason.CONTROLLER_FAULT)
    assert "the probe fell over" in answer.message and "reset_fault" in answer.message


def test_a_goal_right_after_the_reset_of_a_fault_waits_for_the_report_of_it(around):
    """It was refused because of the state before, each time."""
    goal = around.accepted_goal()
    around.change_state = faulty
    around.wait_status(goal, PlanningStatus.FAILED, Reason.CONTROLLER_FAULT)
    around.feeling = False
    around.change_state = lambda message: message
    report = threading.Timer(0.1, setattr, (around, "feeling", True))
    report.start()
    answer = around.set_goal()
    report.join()
    assert answer.accepted, answer


def test_a_request_of_too_many_subgoals_is_refused_before_anything_is_encoded(around):
    goal = around.accepted_goal()
    encoded = around.encoded
    answer = refused(around, Reason.TOO_MANY_SUBGOALS, count=1000)
    assert "64" in answer.message and around.encoded == encoded
    around.probe.wait("status", lambda status: status.goal_id == goal)


@pytest.mark.parametrize(
    ("gripper", "steps", "reason"),
    [
        (["shut"], [], Reason.GRIPPER_MISMATCH),
        (["open", "close"], [], Reason.GRIPPER_MISMATCH),
        ([], [1, 2], Reason.STEPS_MISMATCH),
    ],
)
def test_a_request_that_does_not_fit_leaves_the_goal_in_execution_alone(
    around, gripper, steps, reason
):
    goal = around.accepted_goal()
    encoded = around.encoded
    refused(around, reason, gripper=gripper, steps=steps)
    assert around.encoded == encoded
    around.probe.wait("status", lambda status: status.goal_id == goal)


def test_a_halt_while_the_goal_is_encoded_refuses_it(around):
    around.accepted_goal()
    encode = around.before_encoding

    def halt_first():
        around.halts, around.last_halt = around.halts + 1, around.probe.now()
        around.publish_state()
        threading.Event().wait(0.2)  # until the planner has got it

    around.before_encoding = halt_first
    refused(around, Reason.CONTROLLER_HALTED)
    around.before_encoding = encode


# Goals in execution -------------------------------------------------------------------------


def test_a_goal_is_executed_step_by_step(around):
    goal = around.accepted_goal()
    status = around.wait_status(goal, PlanningStatus.MOVING, Reason.STEP_SENT, step=3)
    assert status.subgoals == 1 and status.command_latency > 0
    sent = [c for c in around.probe.messages("command") if c.goal_id == goal]
    assert {command.reason for command in sent} == {Reason.PLANNED_AT_REST}


def test_an_idle_planner_has_no_energies(around):
    around.forget()
    status = around.probe.wait("status", lambda s: s.state == PlanningStatus.IDLE)
    assert status.reason == Reason.NO_GOAL and status.goal_id == ""
    assert np.isnan([status.energy, status.predicted_energy]).all()


LATENTS = {
    "of another model": lambda m: setattr(m, "model", "somebody else's"),
    "of another shape": lambda m: setattr(m, "rows", 3),
    "of unknown encoding": lambda m: setattr(m, "encoding", 9),
    "of too few bytes": lambda m: setattr(m, "data", m.data[:8]),
    "that is not finite": lambda m: setattr(
        m, "data", array("B", np.full(16 * 48, np.nan, "<f4").tobytes())
    ),
}


@pytest.mark.parametrize("name", LATENTS)
def test_no_command_follows_a_latent(name, around):
    goal = around.accepted_goal()
    around.wait_status(goal, PlanningStatus.MOVING)

    def spoiled(message):
        LATENTS[name](message)
        return message

    around.change_latent = spoiled
    status = around.wait_status(goal, PlanningStatus.WAITING, Reason.LATENT_INVALID)
    commands = around.commands()
    assert refused(around, Reason.LATENT_INVALID).message == status.message
    diagnosis = around.probe.wait(
        "/diagnostics", lambda m: m.status[0].name == "/bench/planner_node" and m.status[0].message
    )
    assert status.message in str(diagnosis.status[0].values) + diagnosis.status[0].message
    assert around.commands() == commands
    around.change_latent = lambda message: message
    # The goal goes on where it was held up. The command and its status may come in either order.
    around.probe.wait("command", lambda command: command.goal_id == goal, after=commands)
    around.wait_status(goal, PlanningStatus.MOVING)


def nan_position(message):
    message.pose.position.x = float("nan")
    return message


def no_orientation(message):
    message.pose.orientation = Quaternion(x=0.0, y=0.0, z=0.0, w=0.0)
    return message


HINDRANCES = {
    "an image that is too old": (
        lambda a: setattr(a, "latent_age", 5.0), Reason.IMAGE_STALE),
    "no more images": (
        lambda a: setattr(a, "seeing", False), Reason.NO_IMAGE),
    "a robot state that is too old": (
        lambda a: setattr(a, "state_age", 5.0), Reason.NO_MATCHING_STATE),
    "no more robot states": (
        lambda a: setattr(a, "feeling", False), Reason.NO_MATCHING_STATE),
    "a robot state that is not finite": (
        lambda a: setattr(a, "change_state", nan_position), Reason.STATE_INVALID),
    "an orientation that is none": (
        lambda a: setattr(a, "change_state", no_orientation), Reason.STATE_INVALID),
}  # fmt: skip


@pytest.mark.parametrize("name", HINDRANCES)
def test_the_robot_holds_and_the_status_names(name, around):
    disturb, reason = HINDRANCES[name]
    goal = around.accepted_goal()
    around.wait_status(goal, PlanningStatus.MOVING)
    disturb(around)
    around.wait_status(goal, PlanningStatus.WAITING, reason)
    commands = around.commands()
    around.probe.wait("status", lambda status: status.goal_id == goal)
    assert around.commands() == commands


def test_a_halt_at_the_controller_ends_the_goal_with_its_words(around):
    goal = around.accepted_goal()
    around.wait_status(goal, PlanningStatus.MOVING)

    def halted(message):
        message.message = "halted by a hand on the button"
        return message

    around.change_state = halted
    around.halts, around.last_halt = around.halts + 1, around.probe.now()
    status = around.wait_status(goal, PlanningStatus.STOPPED, Reason.CONTROLLER_HALTED)
    assert "hand on the button" in status.message
    commands = around.commands()
    around.probe.wait("status", lambda status: status.goal_id == goal)
    assert around.commands() == commands


def test_refused_commands_are_planned_again_and_then_given_up(around):
    around.accepted_goal()
    mark = around.probe.mark("command")
    around.refuse_commands()
    goal = around.set_goal().goal_id
    around.wait_status(goal, PlanningStatus.FAILED, Reason.OUT_OF_SEQUENCE)
    sent = [c for c in around.probe.messages("command", mark) if c.goal_id == goal]
    assert len({seconds(command.header.stamp) for command in sent}) == len(sent) == 3


def test_a_controller_that_takes_no_command_ends_the_goal(around):
    around.obeying = False
    goal = around.accepted_goal()
    around.wait_status(goal, PlanningStatus.FAILED, Reason.COMMAND_NOT_TAKEN)


def test_without_overlap_nothing_is_planned_while_the_robot_moves(around):
    goal = around.accepted_goal()
    around.wait_status(goal, PlanningStatus.MOVING)
    around.moving = True
    around.probe.wait("robot_state", lambda state: state.moving)
    commands = around.commands()
    for _ in range(5):
        around.probe.wait("latent")
    assert around.commands() <= commands + 1


def test_with_overlap_newer_commands_replace_the_one_in_execution(around):
    assert around.change_parameters(overlap=True).successful
    try:
        goal = around.accepted_goal()
        around.wait_status(goal, PlanningStatus.MOVING)
        around.moving = True
        around.probe.wait(
            "command", lambda c: c.goal_id == goal and c.reason == Reason.PLANNED_IN_MOTION
        )
        mark = around.commands()
        around.probe.wait("command", after=mark + 3)
        sent = around.probe.messages("command", mark)
        stamps = [seconds(command.header.stamp) for command in sent]
        sequence = [command.sequence for command in sent]
        assert stamps == sorted(set(stamps)), "each is planned from a newer image"
        assert sequence == sorted(set(sequence))
        for command in sent:
            place = command.pose.position
            offset = np.array([place.x, place.y, place.z]) - [0.5, 0.0, 0.2]
            assert np.abs(offset).max() <= 0.075 + 1e-6
        around.moving = False
        around.wait_status(goal, PlanningStatus.MOVING, Reason.STEP_SENT)
    finally:
        around.moving = False
        assert around.change_parameters(overlap=False).successful


def test_a_goal_may_say_what_the_gripper_does(around):
    around.accepted_goal()
    mark = around.commands()
    answer = around.set_goal(gripper=["close"])
    assert answer.accepted, answer.message
    command = around.probe.wait(
        "command", lambda command: command.goal_id == answer.goal_id, after=mark
    )
    assert command.gripper_closedness == 1.0


# Stop, halt, deactivation -------------------------------------------------------------------


def test_stop_asks_the_controller_to_halt(around):
    goal = around.accepted_goal()
    halts = around.halts
    answer = around.probe.call(Trigger, "stop", Trigger.Request())
    assert answer.success and goal in answer.message and "halted by the probe" in answer.message
    assert around.halts == halts + 1
    around.wait_status(goal, PlanningStatus.STOPPED, Reason.STOP_REQUESTED)


@pytest.mark.parametrize("service", ["stop", "halt"])
def test_a_goal_set_right_after_an_acknowledged(service, around):
    around.accepted_goal()
    for _ in range(20):
        mark = around.probe.mark("status")
        assert around.probe.call(Trigger, service, Trigger.Request()).success
        answer = around.set_goal()
        assert answer.accepted, answer.message
        # By then the planner has got the state with the halt, which is published after the goal.
        around.probe.wait(
            "status",
            lambda s, g=answer.goal_id: s.goal_id == g and s.step >= 2,
            after=mark,
        )
        of_goal = [s for s in around.probe.messages("status", mark) if s.goal_id == answer.goal_id]
        assert PlanningStatus.STOPPED not in {status.state for status in of_goal}


def test_deactivation_ends_the_goal(around):
    goal = around.accepted_goal()
    assert around.probe.change("planner_node", "deactivate")
    around.wait_status(goal, PlanningStatus.CANCELLED, Reason.PLANNER_DEACTIVATED)
    refused(around, Reason.NODE_INACTIVE)
    stop = around.probe.call(Trigger, "stop", Trigger.Request())
    assert not stop.success and "call `halt`, or use the robot's own stop" in stop.message
    assert around.probe.change("planner_node", "activate")


# What is published of a goal ----------------------------------------------------------------


def test_an_accepted_goal_is_published_with_its_images_and_latents(around):
    around.accepted_goal()
    answer = around.set_goal(count=2, steps=[3, 4], gripper=["planned", "hold"])
    goal = around.probe.wait("goal", lambda goal: goal.goal_id == answer.goal_id, after=0)
    assert len(goal.images) == len(goal.latents) == 2
    assert bytes(goal.images[0].data) == around.image_bytes(0)
    assert goal.latents[0].model == around.model.fingerprint
    assert list(goal.steps) == [3, 4] and list(goal.gripper) == ["planned", "hold"]
    assert goal.header.frame_id == "camera" and seconds(goal.header.stamp) > 0


def test_the_image_of_the_present_subgoal_is_published_when_it_becomes_the_present_one(around):
    around.accepted_goal()
    mark = around.probe.mark("goal_image/compressed")
    answer = around.set_goal(count=3, steps=[1, 2, 50])
    assert answer.accepted, answer.message
    around.wait_status(answer.goal_id, PlanningStatus.MOVING, step=5)
    shown = [bytes(image.data) for image in around.probe.messages("goal_image/compressed", mark)]
    assert shown == [around.image_bytes(number) for number in range(3)]


def test_a_late_listener_gets_the_goal_and_its_image(around):
    goal = around.accepted_goal()
    received = []
    for message_type, topic in ((Goal, "goal"), (CompressedImage, "goal_image/compressed")):
        around.probe.node.create_subscription(message_type, topic, received.append, LATCHED)
    around.probe.wait_until(lambda: goal in {getattr(m, "goal_id", None) for m in received})
    around.probe.wait_until(lambda: any(isinstance(m, CompressedImage) for m in received))


def test_an_activated_planner_says_that_there_is_no_goal(around):
    around.accepted_goal()
    mark = around.probe.mark("goal")
    around.forget()
    assert around.probe.wait("goal", after=mark).goal_id == ""


# Parameters ---------------------------------------------------------------------------------


def test_a_change_while_active_holds_for_the_next_goal(around):
    goal = around.accepted_goal()
    around.wait_status(goal, PlanningStatus.MOVING)
    assert around.change_parameters(command_lifetime=1.5, **{"cem.samples": 16}).successful
    try:
        mark = around.commands()
        around.probe.wait("command", after=mark + 1)
        lifetimes = {seconds(c.lifetime) for c in around.probe.messages("command", mark)}
        assert lifetimes == {0.0}
        following = around.set_goal().goal_id
        command = around.probe.wait("command", lambda command: command.goal_id == following)
        assert seconds(command.lifetime) == 1.5
    finally:
        assert around.change_parameters(command_lifetime=0.0, **{"cem.samples": 8}).successful


def test_a_change_that_cannot_be_is_refused_and_the_next_goal_is_planned_as_before(around):
    result = around.change_parameters(planner="no.such.module:Planner")
    assert not result.successful and "no.such.module" in result.reason
    goal = around.accepted_goal()
    around.wait_status(goal, PlanningStatus.MOVING)
    assert around.change_parameters(min_improvement=0.1).successful
    assert around.change_parameters(min_improvement=0.0).successful


def test_a_parameter_that_needs_a_restart_is_refused_while_active(around):
    result = around.change_parameters(device="cpu")
    assert not result.successful and "deactivate" in result.reason


# Memory -------------------------------------------------------------------------------------


def resident_megabytes(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"no process {pid}")


def test_requests_of_many_images_leave_the_planner_no_larger(around, planner_process):
    """But for the middleware's buffers, which grow to the largest request and are used again."""
    around.accepted_goal()
    around.image_size = 20_000
    sizes = []
    for _ in range(6):
        refused(around, Reason.TOO_MANY_SUBGOALS, count=1000)
        assert around.set_goal(count=64).accepted
        assert around.probe.call(Trigger, "cancel", Trigger.Request()).success
        sizes.append(resident_megabytes(planner_process.popen.pid))
    assert sizes[-1] - sizes[1] < 10.0, sizes
