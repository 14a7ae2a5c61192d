# SPDX-License-Identifier: Apache-2.0
"""Goal execution alone: every row of the fault table that is its business, and the halts."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_model import small_world_model

from vjepa2_ros.execution.goal_execution import MOST_SETBACKS, SILENCE, GoalExecution
from vjepa2_ros.execution.goal_request import refusal_of
from vjepa2_ros.execution.goal_status import GoalState, GoalStatus
from vjepa2_ros.execution.observation import EncodedImage
from vjepa2_ros.execution.robot_report import RobotReport
from vjepa2_ros.planning.step import Step
from vjepa2_ros.robot.driver import RobotState
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.robot.safety import MAX_GAP, CommandGate
from vjepa2_ros.settings.cell import MotionCell, ObservationAge
from vjepa2_ros.settings.controller import MotionLimits
from vjepa2_ros.settings.declaration import parameters_of
from vjepa2_ros.settings.planning import ExecutionSettings, LoopSettings

DOWN = np.array([1.0, 0.0, 0.0, 0.0])
SETTINGS = ExecutionSettings(cell=MotionCell(age=ObservationAge(1.0)), step_duration=0.5)


def measured(stamp, position=(0.5, 0.0, 0.2), quaternion=DOWN):
    return RobotState(np.array(position), quaternion, 0.0, stamp)


def step_to(state, number, finished=None, subgoal=0):
    action = torch.tensor([0.05, 0, 0, 0, 0, 0, 0])
    return Step(
        action=action,
        target_state=state + action,
        energy=0.5,
        predicted_energy=0.4,
        subgoal=subgoal,
        step=number,
        finished=finished,
        plan_seconds=0.01,
    )


MODEL = small_world_model()


class Loop:
    """Steps of 5 cm along x; `ends` says how the last one finishes."""

    def __init__(self, steps=100, ends="step_limit"):
        self.goals, self.steps, self.ends, self.count = [None], steps, ends, 0
        self.seen = []
        self.world_model = MODEL

    def step(self, latent, state, ahead=None, commanded_closedness=None):
        self.seen.append((state, ahead))
        self.count += 1
        finished = self.ends if self.count == self.steps else None
        return step_to(state if ahead is None else ahead, self.count, finished)


class Surroundings:
    """Clock, camera, controller and worker of a goal execution, advanced by hand."""

    def __init__(self, settings=SETTINGS):
        self.now, self.pending, self.commands, self.statuses = 100.0, [], [], []
        self.execution = GoalExecution(
            settings,
            0.075,
            lambda: self.now,
            lambda: self.now,
            self.pending.append,
            lambda command, reason: self.commands.append((command, reason)),
            self.statuses.append,
        )
        self.report = RobotReport(measured(self.now), frame="base")

    def robot(self, **changes):
        """The controller reports, with a state measured now unless one is given."""
        changes = {"state": measured(self.now)} | changes
        self.report = replace(self.report, **changes)
        self.execution.robot_moved(self.report)

    def image(self, age=0.0):
        """An image that was captured `age` seconds ago arrives."""
        self.execution.observe(EncodedImage(torch.zeros(4, 2), self.now - age, 0.01))

    def plan(self, outcome=None):
        """The plan in execution is done."""
        observation = self.pending.pop()
        self.execution.planned(observation, outcome or observation.plan())

    def look(self):
        """After a while the robot reports and an image arrives."""
        self.now += 0.1
        self.robot()
        self.image()

    def start(self, loop=None):
        self.robot()
        self.image()
        return self.execution.start(loop or Loop(), self.execution.ticket())

    def take(self, **changes):
        """The controller accepts the last command."""
        command, _ = self.commands[-1]
        self.robot(accepted=(command.goal_id, command.sequence), **changes)

    def refuse(self, reason):
        command, _ = self.commands[-1]
        refused = command.goal_id, command.sequence
        self.robot(refused=refused, refused_reason=reason, message=f"refused: {reason.text}")

    def to_command(self):
        """A goal with its first command sent."""
        goal = self.start()
        self.look()
        self.plan()
        return goal

    @property
    def status(self):
        return self.statuses[-1]

    def expect(self, state, reason):
        assert (self.status.state, self.status.reason) == (state, reason), self.status


@pytest.fixture
def around():
    return Surroundings()


# The way of a goal --------------------------------------------------------------------------


def test_the_states_are_those_of_the_message():
    message = pytest.importorskip("vjepa2_ros.msg").PlanningStatus
    assert {state.name: state.value for state in GoalState} == {
        state.name: getattr(message, state.name) for state in GoalState
    }
    over = {state for state in GoalState if state.is_over}
    assert over == set(GoalState) - {
        GoalState.IDLE, GoalState.WAITING, GoalState.PLANNING, GoalState.MOVING
    }  # fmt: skip


def test_without_a_goal_the_energies_are_no_numbers():
    idle = GoalStatus()
    assert (idle.state, idle.reason) == (GoalState.IDLE, Reason.NO_GOAL)
    assert np.isnan([idle.energy, idle.predicted_energy]).all()


def test_a_goal_is_executed_step_by_step_to_its_limit(around):
    goal = around.start(Loop(steps=2))
    for number in (1, 2):
        around.look()
        around.expect(GoalState.PLANNING, Reason.PLANNING)
        around.plan()
        around.expect(GoalState.MOVING, Reason.STEP_SENT)
        assert around.status.step == number and around.status.goal_id == goal
        command, reason = around.commands[-1]
        assert reason == Reason.PLANNED_AT_REST and command.frame == "base"
        assert command.sequence == number and command.observation_stamp == around.now
        np.testing.assert_allclose(command.position, [0.55, 0.0, 0.2], atol=1e-6)
        around.take(moving=True)
        around.take(moving=False)
    around.expect(GoalState.STEP_LIMIT, Reason.ALL_STEPS_MADE)
    assert around.execution.goal is None


def test_the_gate_takes_a_new_goal_however_many_commands_were_sent_before(around):
    """A planner that counted on over all goals could serve none after a thousand commands."""
    gate = CommandGate(MotionLimits())

    def execute(steps):
        around.start(Loop(steps=steps))
        for number in range(1, steps + 1):
            around.look()
            around.plan()
            command, _ = around.commands[-1]
            verdict = gate.check(command, measured(around.now), around.now, around.now)
            assert verdict.accepted, (number, verdict)
            around.take(moving=False)

    execute(MAX_GAP + 10)
    execute(2)
    assert [command.sequence for command, _ in around.commands[-3:]] == [MAX_GAP + 10, 1, 2]


def test_no_improvement_ends_the_goal_without_a_command(around):
    around.start(Loop(steps=1, ends="reached"))
    around.look()
    around.plan()
    around.expect(GoalState.REACHED, Reason.NO_IMPROVEMENT)
    assert around.commands == [] and around.status.energy == 0.5


def test_an_image_captured_before_the_end_of_the_step_is_not_planned_from(around):
    around.to_command()
    around.take(moving=True)
    around.look()
    assert around.pending == [], "the robot is moving"
    around.now += 0.1
    around.take(moving=False)
    around.expect(GoalState.WAITING, Reason.WAITING_FOR_IMAGE)
    around.image(age=0.05)
    assert around.pending == [] and not around.execution.wants_image(around.now - 0.05)
    around.look()
    assert len(around.pending) == 1


def test_the_figures_of_a_step_are_in_its_status(around):
    around.start()
    around.now += 0.1
    around.robot()
    around.now += 0.05
    around.image(age=0.05)
    around.now += 0.2
    around.plan()
    status = around.status
    assert status.observation_age == pytest.approx(0.05) and status.encode_seconds == 0.01
    assert status.command_latency == pytest.approx(0.25) and status.plan_seconds == 0.01


def test_a_new_goal_replaces_the_one_in_execution_and_its_plan_is_dropped(around):
    first = around.start()
    around.look()
    around.robot(moving=True)
    second = around.execution.start(Loop(), around.execution.ticket())
    around.expect(GoalState.REPLACED, Reason.REPLACED)
    assert around.status.goal_id == first != second
    around.plan()
    assert around.commands == []
    around.execution.tick()
    around.expect(GoalState.MOVING, Reason.WAITING_FOR_ROBOT)
    around.robot(moving=False)
    around.expect(GoalState.WAITING, Reason.WAITING_FOR_IMAGE)


def test_a_goal_keeps_the_settings_that_it_was_started_with(around):
    around.start()
    around.execution.settings = replace(SETTINGS, command_lifetime=2.0)
    around.look()
    around.plan()
    assert around.commands[-1][0].lifetime == 0.0
    around.start()
    around.look()
    around.plan()
    assert around.commands[-1][0].lifetime == 2.0


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (GoalState.CANCELLED, Reason.CANCEL_REQUESTED),
        (GoalState.CANCELLED, Reason.PLANNER_DEACTIVATED),
        (GoalState.STOPPED, Reason.STOP_REQUESTED),
    ],
)
def test_a_goal_that_is_ended_from_outside_sends_no_further_command(around, state, reason):
    around.start()
    around.look()
    around.execution.finish(state, reason, "ended by the test")
    around.expect(state, reason)
    around.plan()
    around.look()
    assert around.commands == [] and around.pending == []


def test_a_goal_that_is_over_is_released(around):
    loop = Loop()
    released = weakref.ref(loop)
    around.start(loop)
    around.look()
    around.execution.finish(GoalState.CANCELLED, Reason.CANCEL_REQUESTED, "cancelled")
    around.plan(RuntimeError("too late"))
    del loop
    assert released() is None


def test_a_duplicate_of_the_accepted_command_that_is_refused_does_not_end_its_step(around):
    around.to_command()
    around.take(moving=True)
    command, _ = around.commands[-1]
    again = command.goal_id, command.sequence
    around.robot(
        accepted=again, moving=True, refused=again, refused_reason=Reason.OUT_OF_SEQUENCE
    )
    around.expect(GoalState.MOVING, Reason.STEP_SENT)


# What holds a goal up -----------------------------------------------------------------------


def test_a_silent_camera_is_named_after_a_second(around):
    around.start()
    around.now += SILENCE - 0.1
    around.execution.tick()
    around.expect(GoalState.WAITING, Reason.WAITING_FOR_IMAGE)
    around.now += 0.2
    around.execution.tick()
    around.expect(GoalState.WAITING, Reason.NO_IMAGE)
    around.look()
    around.expect(GoalState.PLANNING, Reason.PLANNING)


def test_a_camera_that_repeats_its_last_image_is_named_as_soon_as_a_silent_one(around):
    around.start()
    around.execution.finish(GoalState.CANCELLED, Reason.CANCEL_REQUESTED, "cancelled")
    around.start()
    image = EncodedImage(torch.zeros(4, 2), around.now, 0.01)
    for _ in range(12):
        around.now += 0.1
        around.robot()
        around.execution.observe(image)
        around.execution.tick()
    around.expect(GoalState.WAITING, Reason.NO_IMAGE)
    assert "no new image" in around.execution.goal.message


HINDRANCES = {
    "an image that is too old": (lambda a: a.image(age=1.5), Reason.IMAGE_STALE),
    "a robot state of another time": (
        lambda a: (setattr(a, "now", a.now + 0.5), a.image()),
        Reason.NO_MATCHING_STATE,
    ),
    "a robot state that is not finite": (
        lambda a: (a.robot(state=measured(a.now, (np.nan, 0, 0))), a.image()),
        Reason.STATE_INVALID,
    ),
    "an orientation that is none": (
        lambda a: (a.robot(state=measured(a.now, quaternion=np.zeros(4))), a.image()),
        Reason.STATE_INVALID,
    ),
    "a latent that cannot be used": (
        lambda a: a.execution.refuse_latent("of another model"),
        Reason.LATENT_INVALID,
    ),
}


@pytest.mark.parametrize("name", HINDRANCES)
def test_the_goal_waits_and_goes_on_after(name, around):
    hinder, reason = HINDRANCES[name]
    around.start()
    around.now += 0.2
    hinder(around)
    assert around.pending == []
    around.execution.tick()
    around.expect(GoalState.WAITING, reason)
    around.look()
    around.expect(GoalState.PLANNING, Reason.PLANNING)
    around.plan()
    around.expect(GoalState.MOVING, Reason.STEP_SENT)


def test_a_goal_is_refused_until_image_latent_and_robot_are_there(around):
    execution = around.execution
    assert execution.not_ready().reason == Reason.NO_IMAGE
    around.image()
    assert execution.not_ready().reason == Reason.NO_ROBOT_STATE
    around.robot()
    assert execution.not_ready() is None
    execution.refuse_latent("not finite")
    assert execution.not_ready().reason == Reason.LATENT_INVALID
    around.image()
    assert execution.not_ready() is None
    around.robot(fault_reason=Reason.STEP_TOO_LARGE, fault="a step of 2 m")
    assert execution.not_ready().reason == Reason.CONTROLLER_FAULT
    assert "reset_fault" in execution.not_ready().message


# Commands without effect --------------------------------------------------------------------


def test_a_plan_that_comes_too_late_is_not_sent_and_the_third_in_a_row_ends_the_goal(around):
    around.start()
    for number in range(1, MOST_SETBACKS + 1):
        around.look()
        around.now += 1.1
        around.image()
        around.plan()
        around.execution.tick()
        if number < MOST_SETBACKS:
            around.expect(GoalState.WAITING, Reason.PLAN_TOO_LATE)
    around.expect(GoalState.FAILED, Reason.PLAN_TOO_LATE)
    assert around.commands == []


def test_an_error_of_the_planner_ends_the_goal(around):
    around.start()
    around.look()
    around.plan(ValueError("energies are not finite"))
    around.expect(GoalState.FAILED, Reason.PLANNING_FAILED)
    assert "energies are not finite" in around.status.message and around.commands == []


def test_a_controller_that_takes_no_command_ends_the_goal_at_the_third(around):
    around.start()
    for number in range(1, MOST_SETBACKS + 1):
        around.look()
        around.plan()
        around.now += 0.6
        around.execution.tick()
        if number < MOST_SETBACKS:
            around.expect(GoalState.WAITING, Reason.COMMAND_NOT_TAKEN)
    around.expect(GoalState.FAILED, Reason.COMMAND_NOT_TAKEN)
    assert [command.sequence for command, _ in around.commands] == [1, 2, 3]


@pytest.mark.parametrize(
    "reason",
    [
        Reason.STALE,
        Reason.FROM_THE_FUTURE,
        Reason.FOREIGN_GOAL,
        Reason.OUT_OF_SEQUENCE,
        Reason.WRONG_FRAME,
    ],
)
def test_a_refused_command_is_planned_again_and_the_third_ends_the_goal(around, reason):
    around.start()
    for _ in range(MOST_SETBACKS):
        around.look()
        around.plan()
        around.refuse(reason)
    around.expect(GoalState.FAILED, reason)
    stamps = [command.observation_stamp for command, _ in around.commands]
    assert len(set(stamps)) == MOST_SETBACKS


def test_a_step_that_succeeds_makes_the_refusals_before_it_forgotten(around):
    around.start()
    for _ in range(2):
        for _ in range(MOST_SETBACKS - 1):
            around.look()
            around.plan()
            around.refuse(Reason.STALE)
        around.look()
        around.plan()
        around.take(moving=False)
    around.expect(GoalState.WAITING, Reason.WAITING_FOR_IMAGE)


def test_a_last_step_without_effect_fails_instead_of_ending_at_the_step_limit(around):
    around.start(Loop(steps=1))
    around.look()
    around.plan()
    around.refuse(Reason.STALE)
    around.expect(GoalState.FAILED, Reason.STALE)


def test_a_last_step_that_is_not_taken_fails(around):
    around.start(Loop(steps=1))
    around.look()
    around.plan()
    around.now += 0.6
    around.execution.tick()
    around.expect(GoalState.FAILED, Reason.COMMAND_NOT_TAKEN)


def test_a_motion_that_outlives_its_lifetime_ends_the_step_and_not_the_goal(around):
    around.to_command()
    around.take(moving=True)
    around.take(moving=False, reason=Reason.LIFETIME_EXPIRED, message="halted")
    around.expect(GoalState.WAITING, Reason.WAITING_FOR_IMAGE)


def test_a_clamped_target_is_a_step_like_any_other(around):
    around.to_command()
    around.take(moving=False, reason=Reason.CLAMPED)
    around.expect(GoalState.WAITING, Reason.WAITING_FOR_IMAGE)


def test_a_step_that_takes_longer_than_step_duration_is_looked_at_again(around):
    around.to_command()
    around.take(moving=True)
    around.now += 0.6
    around.execution.tick()
    around.expect(GoalState.WAITING, Reason.WAITING_FOR_IMAGE)


# Faults and halts ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reason", [Reason.STEP_TOO_LARGE, Reason.ROBOT_UNREADABLE, Reason.ROBOT_NOT_STOPPED]
)
def test_a_fault_of_the_controller_ends_the_goal(around, reason):
    around.to_command()
    around.robot(fault_reason=reason, fault=reason.text, halts=1, last_halt=around.now)
    around.expect(GoalState.FAILED, Reason.CONTROLLER_FAULT)
    assert reason.text in around.status.message


def test_a_halt_after_the_request_ends_the_goal(around):
    around.to_command()
    around.now += 0.1
    around.robot(halts=1, last_halt=around.now, message="halted: a hand on the button")
    around.expect(GoalState.STOPPED, Reason.CONTROLLER_HALTED)
    assert "hand on the button" in around.status.message


def test_a_halt_before_the_request_that_is_reported_after_it_does_not_end_the_goal(around):
    around.to_command()
    around.now += 0.1
    halted = around.now  # `stop` halts, is acknowledged, and a goal is set: all at once
    around.execution.finish(GoalState.STOPPED, Reason.STOP_REQUESTED, "stopped")
    around.now += 0.001
    goal = around.execution.start(Loop(), around.execution.ticket())
    around.robot(halts=1, last_halt=halted, moving=False)
    around.look()
    around.expect(GoalState.PLANNING, Reason.PLANNING)
    around.plan()
    assert around.commands[-1][0].goal_id == goal
    around.now += 0.1
    around.robot(halts=2, last_halt=around.now)
    around.expect(GoalState.STOPPED, Reason.CONTROLLER_HALTED)


def test_a_halt_while_the_goal_images_are_encoded_is_known_before_the_start(around):
    around.robot()
    around.image()
    ticket = around.execution.ticket()
    assert not around.execution.halted_since(ticket)
    around.now += 0.1
    around.robot(halts=1, last_halt=around.now)
    assert around.execution.halted_since(ticket)
    assert not around.execution.halted_since(around.execution.ticket())


def test_a_halt_of_long_ago_ends_no_goal_although_the_clock_was_set_back(around):
    around.robot(halts=3, last_halt=around.now + 3600.0)
    around.image()
    around.execution.start(Loop(), around.execution.ticket())
    around.look()
    around.expect(GoalState.PLANNING, Reason.PLANNING)


def test_reports_of_foreign_commands_change_nothing(around):
    goal = around.to_command()
    around.robot(accepted=("somebody else's", 2**64 - 1), moving=True)
    around.robot(refused=("", 0), refused_reason=Reason.INVALID)
    around.robot(refused=(goal, 2**64 - 1), refused_reason=Reason.OUT_OF_SEQUENCE)
    around.expect(GoalState.MOVING, Reason.STEP_SENT)


# Overlap of planning and motion -------------------------------------------------------------


@pytest.fixture
def overlapping():
    around = Surroundings(replace(SETTINGS, overlap=True))
    around.start()
    around.look()
    around.plan()
    around.take(moving=True)
    return around


def test_with_overlap_the_next_plan_starts_from_where_the_robot_is_going(overlapping):
    around = overlapping
    loop = around.execution.goal.loop
    for x in (0.51, 0.52):
        around.now += 0.1
        around.take(moving=True, state=measured(around.now, (x, 0.0, 0.2)))
    around.now += 0.04
    assert around.execution.wants_image(around.now)
    around.image()
    around.expect(GoalState.MOVING, Reason.STEP_SENT)
    around.plan()
    state, ahead = loop.seen[-1]
    assert state[0] == pytest.approx(0.52) and 0.52 < ahead[0] <= 0.53
    command, reason = around.commands[-1]
    assert command.sequence == 2 and reason == Reason.PLANNED_IN_MOTION


def test_with_overlap_the_step_keeps_to_its_bound_from_where_the_robot_is(overlapping):
    around = overlapping
    around.look()
    around.now += 0.1
    around.robot(state=measured(around.now, (0.45, 0.0, 0.2)))
    around.plan()
    assert around.commands[-1][0].position[0] == pytest.approx(0.525)


def test_with_overlap_a_state_that_is_not_finite_leads_to_no_command(overlapping):
    around = overlapping
    around.look()
    around.robot(state=measured(around.now, (np.nan, 0.0, 0.2)))
    around.plan()
    assert len(around.commands) == 1
    around.expect(GoalState.MOVING, Reason.STATE_INVALID)


def test_with_overlap_a_refused_command_leaves_the_one_before_it_in_force(overlapping):
    around = overlapping
    around.look()
    around.plan()
    around.refuse(Reason.STALE)
    around.expect(GoalState.MOVING, Reason.STALE)
    around.robot(moving=False)
    around.expect(GoalState.WAITING, Reason.WAITING_FOR_IMAGE)


def test_without_overlap_no_image_is_wanted_while_the_robot_moves(around):
    around.to_command()
    around.take(moving=True)
    around.look()
    assert around.pending == [] and not around.execution.wants_image(around.now)


def test_a_fault_reported_before_a_request_may_be_over_and_one_after_it_is_not():
    around = Surroundings()
    around.robot()
    around.now += 0.01
    ticket = around.execution.ticket()
    assert not around.execution.awaits_report(ticket)
    around.robot(state=measured(around.now - 0.01), fault_reason=Reason.STATE_STALE)
    assert around.execution.awaits_report(ticket)
    around.robot()
    assert not around.execution.awaits_report(ticket)
    assert around.execution.not_ready().reason != Reason.NONE


# Requests -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "steps", "gripper", "reason"),
    [
        (0, [], [], Reason.NO_GOAL_IMAGE),
        (65, [], [], Reason.TOO_MANY_SUBGOALS),
        (1000, [0], ["?"], Reason.TOO_MANY_SUBGOALS),
        (1, [1, 2], [], Reason.STEPS_MISMATCH),
        (2, [1, 0], [], Reason.STEPS_MISMATCH),
        (2, [1, 2**32 - 1], [], Reason.STEPS_MISMATCH),
        (1, [], ["open", "close"], Reason.GRIPPER_MISMATCH),
        (1, [], ["shut"], Reason.GRIPPER_MISMATCH),
    ],
)
def test_a_request_that_cannot_be_a_goal_is_refused(images, steps, gripper, reason):
    assert refusal_of(images, steps, gripper, LoopSettings()).reason == reason


def test_a_request_that_fits_is_not_refused():
    assert refusal_of(2, [1, 2], ["open", "planned"], LoopSettings()) is None
    assert refusal_of(64, [], [], LoopSettings()) is None
    most = parameters_of(LoopSettings)["steps_per_subgoal"].maximum
    assert refusal_of(1, [most], [], LoopSettings()) is None
