# SPDX-License-Identifier: Apache-2.0
"""The planner node alone: the probe is all that surrounds it, and gives it bad input."""

from array import array

import numpy as np
import pytest
from geometry_msgs.msg import Quaternion
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger
from surroundings import Surroundings

from vjepa2_ros.msg import PlanningStatus
from vjepa2_ros.ros.conversions import seconds
from vjepa2_ros.stack.process_group import ProcessGroup
from vjepa2_ros.world_model.checkpoint import load_world_model

PARAMETERS = {
    "planner": "cem",
    "samples": 8,
    "iterations": 1,
    "top_k": 2,
    "patience": 0,
    "steps_per_subgoal": 50,
    "step_duration": 0.5,
    "max_observation_age": 1.0,
    "encode_timeout": 1.0,
}


@pytest.fixture(scope="module")
def planner(bench, tiny_model):
    with ProcessGroup() as group:
        parameters = {"checkpoint": str(tiny_model), **PARAMETERS}
        group.start_node("planner_node", parameters, namespace="/bench")
        assert bench.change("planner_node", "configure")
        yield load_world_model(tiny_model)


@pytest.fixture
def around(bench, planner):
    around = Surroundings(bench, planner)
    assert bench.change("planner_node", "activate")
    around.forget()
    yield around
    assert bench.change("planner_node", "deactivate")
    around.close()


def test_a_goal_before_the_first_image_is_refused_with_what_to_look_at(around):
    around.seeing = False
    around.forget()
    commands = around.commands()
    answer = around.set_goal()
    assert not answer.accepted and "no image has arrived yet" in answer.message
    assert "camera/image_raw" in answer.message and around.commands() == commands


def test_a_goal_before_the_first_robot_state_is_refused(around):
    around.feeling = False
    around.forget()
    while "no image" in (answer := around.set_goal()).message:
        around.probe.wait("/diagnostics")
    assert not answer.accepted and "no robot_state has arrived" in answer.message
    assert "controller_node" in answer.message


def test_a_goal_without_an_encoder_is_refused(around):
    around.withdraw_encoder()
    while "not answer;" not in (answer := around.set_goal()).message:
        assert not answer.accepted or around.probe.call(Trigger, "cancel", Trigger.Request())
        around.probe.wait("/diagnostics")
    assert "encoder_node" in answer.message and "bring it up" in answer.message
    around.offer_encoder()


def test_the_encoders_refusal_is_passed_on_in_its_own_words(around):
    around.accepted_goal()
    around.encoder_answers = False
    answer = around.set_goal()
    assert not answer.accepted and answer.message == "image 1 of 1: the probe does not like it"


def test_a_goal_is_pursued_step_by_step(around):
    goal = around.accepted_goal()
    status = around.wait_status(goal, PlanningStatus.MOVING, "step 3")
    assert status.step == 3 and status.subgoals == 1 and status.command_latency > 0


LATENTS = {
    "of another model": (lambda m: setattr(m, "model", "somebody else's"), "another model"),
    "of another shape": (lambda m: setattr(m, "rows", 3), "another shape"),
    "of unknown encoding": (lambda m: setattr(m, "encoding", 9), "unknown encoding"),
    "of too few bytes": (lambda m: setattr(m, "data", m.data[:8]), "in 8 bytes"),
    "that is not finite": (
        lambda m: setattr(m, "data", array("B", np.full(16 * 48, np.nan, "<f4").tobytes())),
        "not finite",
    ),
}


@pytest.mark.parametrize("name", LATENTS)
def test_no_command_follows_a_latent(name, around):
    spoil, text = LATENTS[name]
    goal = around.accepted_goal()
    around.wait_status(goal, PlanningStatus.MOVING)

    def spoiled(message):
        spoil(message)
        return message

    around.change_latent = spoiled
    around.wait_status(goal, PlanningStatus.WAITING, text)
    commands = around.commands()
    refused = around.set_goal()
    assert not refused.accepted and text in refused.message
    diagnosis = around.probe.wait(
        "/diagnostics", lambda m: m.status[0].name == "/bench/planner_node" and m.status[0].message
    )
    assert text in str(diagnosis.status[0].values) + diagnosis.status[0].message
    assert around.commands() == commands
    around.change_latent = lambda message: message
    # The goal goes on where it was held up. The command and its status may come in either order.
    around.probe.wait("command", lambda command: command.goal_id == goal, after=commands)
    around.wait_status(goal, PlanningStatus.MOVING)


FAULTS = {
    "an image that is too old": (
        lambda a: setattr(a, "latent_age", 5.0), PlanningStatus.WAITING, "too old"),
    "no more images": (
        lambda a: setattr(a, "seeing", False), PlanningStatus.WAITING, "no image for"),
    "a robot state that is too old": (
        lambda a: setattr(a, "state_age", 5.0), PlanningStatus.WAITING, "no robot_state"),
    "no more robot states": (
        lambda a: setattr(a, "feeling", False), PlanningStatus.WAITING, "no robot_state"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_the_robot_holds_and_the_status_names(name, around):
    disturb, state, text = FAULTS[name]
    goal = around.accepted_goal()
    around.wait_status(goal, PlanningStatus.MOVING)
    disturb(around)
    around.wait_status(goal, state, text)
    commands = around.commands()
    around.probe.wait("status", lambda status: status.goal_id == goal)
    assert around.commands() == commands


def test_a_robot_state_that_is_not_finite_leads_to_no_command(around):
    goal = around.accepted_goal()
    around.wait_status(goal, PlanningStatus.MOVING)

    def spoiled(message):
        message.pose.position.x = float("nan")
        return message

    around.change_state = spoiled
    around.wait_status(goal, PlanningStatus.WAITING, "not finite")


def test_a_fault_of_the_controller_ends_the_goal_and_forbids_a_new_one(around):
    goal = around.accepted_goal()

    def faulty(message):
        message.fault = "the probe fell over"
        return message

    around.change_state = faulty
    around.wait_status(goal, PlanningStatus.FAILED, "the probe fell over")
    answer = around.set_goal()
    assert not answer.accepted and "reset_fault" in answer.message


def test_a_halt_at_the_controller_ends_the_goal_with_its_words(around):
    goal = around.accepted_goal()
    around.wait_status(goal, PlanningStatus.MOVING)

    def halted(message):
        message.halts, message.message = 1, "halted by a hand on the button"
        return message

    around.change_state = halted
    around.wait_status(goal, PlanningStatus.STOPPED, "hand on the button")
    commands = around.commands()
    around.probe.wait("status", lambda status: status.goal_id == goal)
    assert around.commands() == commands


def test_a_measured_orientation_that_is_none_leads_to_no_command(around):
    goal = around.accepted_goal()
    around.wait_status(goal, PlanningStatus.MOVING)

    def spoiled(message):
        message.pose.orientation = Quaternion(x=0.0, y=0.0, z=0.0, w=0.0)
        return message

    around.change_state = spoiled
    around.wait_status(goal, PlanningStatus.WAITING, "quaternion")
    around.change_state = lambda message: message
    around.wait_status(goal, PlanningStatus.MOVING)


def test_a_last_step_that_is_refused_is_no_end_at_the_step_limit(around):
    around.refuse_commands()
    around.accepted_goal()
    answer = around.set_goal(steps=[1])
    assert answer.accepted, answer.message
    around.wait_status(answer.goal_id, PlanningStatus.FAILED, "the last step came to nothing")


def test_a_controller_that_takes_no_command_ends_the_goal_after_some_tries(around):
    around.obeying = False
    goal = around.accepted_goal()
    around.wait_status(goal, PlanningStatus.FAILED, "did not take command")


def test_refused_commands_are_tried_again_from_a_new_image_and_then_given_up(around):
    around.obeying = False
    around.accepted = ("", 0)
    goal = around.accepted_goal()
    mark = around.probe.mark("command")
    around.refuse_commands()
    around.wait_status(goal, PlanningStatus.FAILED, "refused by the probe")
    stamps = [seconds(c.header.stamp) for c in around.probe.messages("command", max(0, mark - 1))]
    assert len(set(stamps)) == len(stamps)


def test_without_overlap_nothing_is_planned_while_the_robot_moves(around):
    goal = around.accepted_goal()
    around.wait_status(goal, PlanningStatus.MOVING)
    around.moving = True
    around.probe.wait("robot_state", lambda state: state.moving)
    commands = around.commands()
    for _ in range(5):
        around.probe.wait("latent")
    assert around.commands() <= commands + 1


def test_with_overlap_newer_commands_supersede_the_one_under_way(around):
    around.set_overlap(True)
    try:
        goal = around.accepted_goal()
        around.wait_status(goal, PlanningStatus.MOVING)
        around.moving = True
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
        around.wait_status(goal, PlanningStatus.MOVING, "step")
    finally:
        around.moving = False
        around.set_overlap(False)


def test_a_goal_may_say_what_the_gripper_does(around):
    around.accepted_goal()
    mark = around.commands()
    answer = around.set_goal(gripper=["close"])
    assert answer.accepted, answer.message
    command = around.probe.wait(
        "command", lambda command: command.goal_id == answer.goal_id, after=mark
    )
    assert command.gripper_closedness == 1.0


@pytest.mark.parametrize(
    ("gripper", "said"),
    [(["shut"], "planned, open, hold, close, got shut"), (["open", "close"], "2 sub-goals of 1")],
)
def test_a_script_of_the_gripper_that_cannot_be_is_refused(around, gripper, said):
    goal = around.accepted_goal()
    answer = around.set_goal(gripper=gripper)
    assert not answer.accepted and said in answer.message
    around.probe.wait("status", lambda status: status.goal_id == goal)


def test_stop_asks_the_controller_to_halt(around):
    goal = around.accepted_goal()
    answer = around.probe.call(Trigger, "stop", Trigger.Request())
    assert answer.success and answer.message == "halted by the probe" and around.halts == 1
    around.wait_status(goal, PlanningStatus.STOPPED)


def test_deactivation_ends_the_goal(around):
    goal = around.accepted_goal()
    assert around.probe.change("planner_node", "deactivate")
    around.wait_status(goal, PlanningStatus.CANCELLED, "deactivated")
    answer = around.set_goal()
    assert not answer.accepted and "not active" in answer.message
    assert around.probe.change("planner_node", "activate")


def test_a_running_node_refuses_changes_of_its_parameters(around):
    change = Parameter("samples", value=16).to_parameter_msg()
    request = SetParameters.Request(parameters=[change])
    result = around.probe.call(SetParameters, "planner_node/set_parameters", request).results[0]
    assert not result.successful and "deactivate" in result.reason
