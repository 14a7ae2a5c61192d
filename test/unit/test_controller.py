# SPDX-License-Identifier: Apache-2.0
"""What starts, ends and forbids a motion, with a point robot instead of a real one."""

from dataclasses import replace

import numpy as np
import pytest

from vjepa2_ros.robot.arrival import ArrivalDetector
from vjepa2_ros.robot.controller import MotionController
from vjepa2_ros.robot.driver import (
    RobotDescription,
    RobotError,
    RobotMode,
    RobotNotReadyError,
    RobotState,
)
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.robot.safety import MotionCommand
from vjepa2_ros.settings.cell import MotionCell, Workspace
from vjepa2_ros.settings.controller import MotionLimits

DOWN = np.array([1.0, 0.0, 0.0, 0.0])
TICK = 0.02


class Cell:
    """A point robot of constant speed, its controller and a clock; keeps every call in order."""

    def __init__(self):
        self.time = 100.0
        self.position = np.array([0.5, 0.0, 0.2])
        self.quaternion = DOWN
        self.target = None
        self.calls = []
        self.speed = 0.25
        self.frozen = False
        self.broken = ""
        self.wrench = None
        self.mode = RobotMode.READY
        self.gripper_problem = ""
        self.stamp = self.time
        self.controller = MotionController(self, MotionLimits(), planner_timeout=1.0)

    # the robot
    def describe(self):
        return RobotDescription("point", self.speed, 0.08)

    def read_state(self):
        if self.broken == "read":
            raise RobotError("cable pulled")
        if self.broken == "driver":
            raise KeyError("a mistake in the driver")
        return RobotState(
            self.position.copy(),
            self.quaternion,
            0.0,
            self.stamp,
            mode=self.mode,
            gripper_problem=self.gripper_problem,
            wrench=self.wrench,
        )

    def move_to(self, position, quaternion_xyzw, gripper_closedness):
        if self.broken == "move":
            raise RobotError("reflex")
        if self.broken == "not ready":
            raise RobotNotReadyError("a reflex is being cleared")
        self.calls.append("move")
        self.target = position

    def recover(self):
        if self.broken == "recover":
            raise RobotError("user stop is pressed")
        self.calls.append("recover")

    def stop(self):
        if self.broken == "stop":
            raise RobotError("brakes stuck")
        self.calls.append("stop")
        self.target = None

    # time
    def run(self, seconds, planner_alive=True):
        for _ in range(round(seconds / TICK)):
            self.time += TICK
            if not self.frozen:
                self.stamp = self.time
                if self.target is not None:
                    way = self.target - self.position
                    length = np.linalg.norm(way)
                    self.position += way * min(1.0, self.speed * TICK / max(length, 1e-9))
            if planner_alive:
                self.controller.planner_heard(self.time)
            self.controller.tick(self.time, self.time)

    def command(self, sequence=1, goal="goal", offset=(0.07, 0.0, 0.0), **change):
        command = MotionCommand(
            goal, sequence, self.time - 0.1, self.position + offset, DOWN, 0.0, frame="base"
        )
        return self.controller.command(replace(command, **change), self.time, self.time)


@pytest.fixture
def cell():
    cell = Cell()
    cell.run(0.5)
    return cell


def test_nothing_moves_before_the_first_state():
    cell = Cell()
    assert cell.controller.reason is Reason.NO_ROBOT_STATE
    assert cell.command().reason is Reason.NO_ROBOT_STATE
    assert cell.calls == []


def test_a_motion_ends_when_the_robot_has_arrived_and_rests(cell):
    target = cell.position + [0.07, 0, 0]
    assert cell.command().accepted and cell.controller.moving
    cell.run(0.1)
    assert cell.controller.moving
    cell.run(1.0)
    assert not cell.controller.moving and cell.calls == ["move"]
    np.testing.assert_allclose(cell.position, target)
    assert cell.controller.accepted == ("goal", 1) and not cell.controller.fault


def test_a_motion_is_not_over_while_the_gripper_says_that_it_moves():
    """Around an object the fingers stand still before they hold it with force."""
    detector = ArrivalDetector(gripper_stroke=0.08)
    detector.begin(np.zeros(3), DOWN, 0.0)

    def arrived(stamp, moving):
        detector.add(RobotState(np.zeros(3), DOWN, 0.4, stamp, gripper_moving=moving))
        return detector.arrived()

    assert not any(arrived(0.02 * number, True) for number in range(100))
    assert arrived(2.0, False)


def test_an_arm_that_is_held_short_of_its_target_counts_as_done(cell):
    cell.speed = 0.0
    assert cell.command().accepted
    cell.run(0.8)
    assert cell.controller.moving
    cell.run(0.5)
    assert not cell.controller.moving and not cell.controller.fault


def test_an_arm_that_swings_about_its_target_is_not_at_rest(cell):
    assert cell.command(lifetime=30.0).accepted
    cell.speed = 0.0
    for number in range(100):
        cell.position[0] += 0.01 if number % 2 else -0.01
        cell.run(TICK)
    assert cell.controller.moving


def test_states_that_come_late_do_not_pass_for_an_arm_at_rest(cell):
    assert cell.command().accepted
    cell.run(0.1)
    cell.frozen = True
    cell.run(0.4)
    assert cell.controller.moving


def test_a_command_that_outlives_its_lifetime_is_halted_and_the_next_one_goes(cell):
    cell.speed = 0.02
    assert cell.command(lifetime=0.5).accepted
    cell.run(0.6)
    assert cell.calls == ["move", "stop"] and not cell.controller.moving
    assert cell.controller.reason is Reason.LIFETIME_EXPIRED and not cell.controller.fault
    assert cell.controller.last_halt == 0.0, "the goal goes on"
    assert cell.command(sequence=2).accepted


def test_a_planner_that_falls_silent_in_mid_motion_halts_the_robot(cell):
    cell.speed = 0.02
    assert cell.command().accepted
    cell.run(1.2, planner_alive=False)
    assert cell.calls == ["move", "stop"]
    assert cell.controller.reason is Reason.PLANNER_SILENT
    assert cell.time - 0.3 < cell.controller.last_halt < cell.time
    assert cell.command(sequence=2).reason is Reason.FOREIGN_GOAL
    assert cell.command(goal="next").accepted


def test_a_halt_is_the_last_thing_sent_and_ends_the_goal(cell):
    assert cell.command().accepted
    cell.run(0.1)
    assert cell.controller.halt(Reason.HALT_REQUESTED, "operator", cell.time)
    assert not cell.command(sequence=2).accepted
    cell.run(1.0)
    assert cell.calls == ["move", "stop"]
    assert cell.controller.refused_reason is Reason.FOREIGN_GOAL
    assert cell.command(goal="next").accepted, "a halt is not a fault"


@pytest.mark.parametrize(
    "offset, reason",
    [((np.nan, 0, 0), Reason.NOT_FINITE), ((0.2, 0, 0), Reason.STEP_TOO_LARGE)],
)
def test_a_violation_halts_and_latches_until_it_is_reset(cell, offset, reason):
    assert cell.command().accepted
    cell.run(0.1)
    assert cell.command(sequence=2, offset=offset).violation
    assert cell.calls[-1] == "stop" and not cell.controller.moving
    assert cell.controller.fault_reason is cell.controller.refused_reason is reason
    for goal in ("goal", "next"):
        assert cell.command(sequence=3, goal=goal).reason is Reason.FAULT_LATCHED
    assert cell.controller.fault_reason is reason, "the first fault is the cause"
    assert cell.controller.reset_fault(cell.time)
    assert cell.controller.reason is Reason.FAULT_RESET and not cell.controller.fault
    assert cell.controller.fault_reason is Reason.NONE
    cell.run(0.2)
    assert cell.command(sequence=4).reason is Reason.FOREIGN_GOAL
    assert cell.command(goal="another").accepted


def test_a_stale_command_is_dropped_and_the_motion_under_way_goes_on(cell):
    assert cell.command().accepted
    verdict = cell.command(sequence=2, observation_stamp=cell.time - 60)
    assert verdict.reason is Reason.STALE and cell.controller.refused == ("goal", 2)
    assert cell.controller.moving and cell.calls == ["move"]


def test_a_robot_that_falls_silent_latches_a_fault(cell):
    assert cell.command().accepted
    cell.frozen = True
    cell.run(0.7)
    assert cell.calls[-1] == "stop" and cell.controller.fault_reason is Reason.STATE_STALE


def test_a_robot_that_is_silent_for_a_while_before_any_goal_is_no_fault(cell):
    """A machine that is busy with the start of a stack leaves its driver without a turn."""
    cell.frozen = True
    cell.run(0.7)
    assert cell.controller.reason is Reason.STATE_STALE and not cell.controller.fault
    assert cell.command().reason is Reason.STATE_STALE and cell.calls == []
    cell.frozen = False
    cell.run(0.1)
    assert cell.controller.reason is Reason.READY
    assert cell.command(2).accepted


def test_a_state_that_is_not_finite_latches_a_fault(cell):
    cell.position[0] = np.nan
    cell.run(0.1)
    assert cell.calls == ["stop"] and cell.controller.fault_reason is Reason.STATE_INVALID


@pytest.mark.parametrize("quaternion", [np.zeros(4), 2 * DOWN])
def test_a_state_with_an_impossible_orientation_latches_a_fault(cell, quaternion):
    cell.quaternion = quaternion
    cell.run(0.1)
    assert cell.calls == ["stop"] and cell.controller.fault_reason is Reason.STATE_INVALID


def test_states_from_the_future_latch_a_fault(cell):
    cell.stamp, cell.frozen = cell.time + 10.0, True
    cell.run(0.1)
    assert cell.calls == ["stop"]
    assert cell.controller.fault_reason is Reason.STATE_FROM_THE_FUTURE


def test_a_halt_of_a_robot_that_does_not_stop_says_so_and_is_tried_again(cell):
    assert cell.command().accepted
    cell.broken = "stop"
    assert not cell.controller.halt(Reason.HALT_REQUESTED, "operator", cell.time)
    assert cell.controller.reason is cell.controller.fault_reason is Reason.ROBOT_NOT_STOPPED
    assert "brakes stuck" in cell.controller.fault and "own stop" in cell.controller.fault
    cell.run(0.1)
    assert cell.calls == ["move"] and cell.controller.reason is Reason.ROBOT_NOT_STOPPED
    cell.broken = ""
    cell.run(0.1)
    assert cell.calls == ["move", "stop"]
    assert cell.controller.reason is Reason.HALT_REQUESTED
    assert cell.controller.fault_reason is Reason.ROBOT_NOT_STOPPED, "until it is reset"


def test_a_reset_stops_the_robot_first_if_that_is_still_to_be_done(cell):
    assert cell.command().accepted
    cell.run(0.1)
    cell.broken = "stop"
    cell.controller.halt(Reason.HALT_REQUESTED, "operator", cell.time)
    assert not cell.controller.reset_fault(cell.time)
    assert cell.controller.fault_reason is Reason.ROBOT_NOT_STOPPED and cell.calls == ["move"]
    cell.broken = ""
    assert cell.controller.reset_fault(cell.time)
    assert cell.calls == ["move", "stop", "recover"] and not cell.controller.fault
    assert cell.command(goal="next", observation_stamp=cell.time + 0.01).accepted
    cell.run(0.1)
    assert cell.calls[-1] == "move", "no stop is left over to halt the new motion"


def test_a_reset_clears_the_robots_own_errors_and_only_after_a_fault(cell):
    assert cell.controller.reset_fault(cell.time) and cell.calls == []
    cell.command(offset=(np.nan, 0, 0))
    assert cell.controller.reset_fault(cell.time)
    assert cell.calls == ["stop", "recover"]


def test_the_fault_stays_while_the_robot_cannot_be_recovered(cell):
    cell.command(offset=(np.nan, 0, 0))
    cell.broken = "recover"
    assert not cell.controller.reset_fault(cell.time)
    assert cell.controller.fault_reason is cell.controller.reason is Reason.RECOVERY_FAILED
    assert "user stop is pressed" in cell.controller.message
    assert cell.command(goal="next").reason is Reason.FAULT_LATCHED
    cell.broken = ""
    assert cell.controller.reset_fault(cell.time)
    cell.run(0.2)
    assert cell.command(goal="another").accepted


def test_narrower_limits_apply_while_the_robot_moves(cell):
    assert cell.command().accepted
    cell.controller.limits = MotionLimits(
        cell=MotionCell(workspace=Workspace(upper=(0.52, 0.25, 0.36)))
    )
    assert cell.controller.moving, "the motion in execution goes on"
    cell.run(0.1)
    verdict = cell.command(sequence=2, offset=(0.05, 0.0, 0.0))
    assert verdict.reason is Reason.CLAMPED and cell.target[0] == 0.52
    cell.controller.limits = MotionLimits(max_step=0.03)
    cell.run(0.1)
    assert cell.command(sequence=3).reason is Reason.STEP_TOO_LARGE


def test_the_last_state_is_still_told_when_the_robot_cannot_be_read(cell):
    cell.broken = "read"
    state = cell.controller.tick(cell.time + 0.1, cell.time + 0.1)
    assert state is cell.controller.state and cell.controller.fault


def test_halts_and_faults_are_counted_and_dated(cell):
    controller = cell.controller
    assert controller.halts == 0
    controller.halt(Reason.HALT_REQUESTED, "operator", cell.time)
    assert (controller.halts, controller.last_halt) == (1, cell.time)
    cell.run(0.1)
    cell.command(offset=(np.nan, 0, 0))
    assert (controller.halts, controller.last_halt) == (2, cell.time)


@pytest.mark.parametrize(
    "broken, reason, text",
    [
        ("read", Reason.ROBOT_UNREADABLE, "cable pulled"),
        ("move", Reason.ROBOT_REFUSED, "reflex"),
        ("driver", Reason.ROBOT_UNREADABLE, "a mistake in the driver"),
    ],
)
def test_a_robot_that_fails_latches_a_fault_with_its_words(cell, broken, reason, text):
    cell.broken = broken
    cell.command()
    cell.run(0.1)
    assert cell.controller.fault_reason is reason and text in cell.controller.fault
    assert cell.calls[-1] == "stop"
    cell.broken = ""
    assert cell.command(goal="next").reason is Reason.FAULT_LATCHED


def test_a_command_that_the_robot_does_not_carry_out_counts_as_refused(cell):
    cell.broken = "move"
    assert cell.command().reason is Reason.ROBOT_REFUSED
    assert cell.controller.refused == ("goal", 1) and cell.controller.accepted == ("", 0)


def test_after_a_reset_the_motion_starts_from_where_the_robot_was_put(cell):
    assert cell.command().accepted
    cell.run(0.1)
    cell.command(sequence=2, offset=(np.inf, 0, 0))
    cell.position = np.array([0.4, 0.1, 0.3])
    cell.run(0.1)
    cell.controller.reset_fault(cell.time)
    cell.run(0.2)
    assert cell.command(goal="next", offset=(0.0, 0.05, 0.0)).accepted
    np.testing.assert_allclose(cell.target, [0.4, 0.15, 0.3])


def test_a_state_far_from_the_last_one_latches_a_fault_until_it_is_reset(cell):
    cell.position = cell.position + [0.0, 0.0, 0.3]
    cell.run(0.1)
    assert cell.calls == ["stop"] and cell.controller.fault_reason is Reason.STATE_JUMPED
    assert cell.controller.reset_fault(cell.time)
    cell.run(0.3)
    assert not cell.controller.fault


def test_an_arm_that_is_moved_during_a_fault_has_not_jumped_after_it(cell):
    cell.command(offset=(np.nan, 0, 0))
    cell.position = cell.position + [0.0, 0.0, 0.3]
    cell.run(0.3)
    assert cell.controller.fault_reason is Reason.NOT_FINITE
    assert cell.controller.reset_fault(cell.time)
    cell.run(0.3)
    assert not cell.controller.fault


def test_a_robot_faster_than_allowed_latches_a_fault(cell):
    cell.speed = 0.6
    assert cell.command(offset=(0.09, 0.0, 0.0)).accepted
    cell.run(0.3)
    assert cell.calls == ["move", "stop"]
    assert cell.controller.fault_reason is Reason.SPEED_TOO_HIGH


def test_a_robot_that_is_pressed_hard_in_motion_halts_and_latches_a_fault(cell):
    assert cell.command().accepted
    cell.wrench = np.array([0.0, 0.0, 50.0, 0.0, 0.0, 0.0])
    cell.run(TICK)
    assert cell.calls == ["move", "stop"] and not cell.controller.moving
    assert cell.controller.fault_reason is Reason.FORCE_TOO_LARGE


def test_a_person_may_push_the_arm_at_rest_and_meanwhile_no_command_is_taken(cell):
    cell.wrench = np.array([0.0, 0.0, 50.0, 0.0, 0.0, 0.0])
    cell.run(0.1)
    assert cell.command().reason is Reason.FORCE_TOO_LARGE
    assert cell.calls == [] and not cell.controller.fault
    cell.wrench = np.zeros(6)
    cell.run(0.1)
    assert cell.command().accepted


def test_commands_faster_than_allowed_are_dropped_and_the_motion_goes_on(cell):
    assert cell.command().accepted
    assert cell.command(sequence=2).reason is Reason.TOO_FREQUENT
    assert cell.calls == ["move"] and cell.controller.moving
    cell.run(0.1)
    assert cell.command(sequence=2).accepted


def test_an_error_that_the_robot_reports_without_words_latches_a_fault(cell):
    cell.mode = RobotMode.FAULTED
    cell.run(0.1)
    assert cell.calls == ["stop"] and cell.controller.fault_reason is Reason.ROBOT_ERROR
    cell.mode = RobotMode.READY
    cell.run(0.1)
    assert cell.command().reason is Reason.FAULT_LATCHED


def test_a_robot_that_is_in_an_error_again_after_a_reset_is_a_new_fault(cell):
    """However soon: it may be back in its error before the next reading."""
    cell.mode = RobotMode.FAULTED
    for _ in range(3):
        cell.run(0.1)
        assert cell.controller.fault_reason is Reason.ROBOT_ERROR
        calls = cell.calls.count("recover")
        assert cell.controller.reset_fault(cell.time)
        assert cell.calls.count("recover") == calls + 1
    cell.run(0.1)
    assert cell.command().reason is Reason.FAULT_LATCHED


def test_after_a_clock_was_set_back_a_motion_ends_on_arrival_again(cell):
    for change in (-3600.0, 3600.0):
        cell.time += change
        cell.run(0.1)
        if change < 0.0:
            assert cell.controller.fault_reason is Reason.STATE_JUMPED
        assert cell.controller.reset_fault(cell.time)
        cell.run(0.5)
        assert cell.command(goal=f"after {change}", lifetime=30.0).accepted
        cell.run(1.5)
        assert not cell.controller.moving and not cell.controller.fault


def test_a_first_state_without_a_time_does_not_keep_motions_from_ending():
    cell = Cell()
    cell.stamp, cell.frozen = np.nan, True
    cell.run(0.1)
    assert cell.controller.fault_reason is Reason.STATE_INVALID
    cell.frozen = False
    assert cell.controller.reset_fault(cell.time)
    cell.run(0.5)
    assert cell.command(lifetime=30.0).accepted
    cell.run(1.5)
    assert not cell.controller.moving and not cell.controller.fault


def test_a_robot_that_recovers_takes_no_command_and_afterwards_none_from_an_older_image(cell):
    assert cell.command().accepted
    cell.mode = RobotMode.RECOVERING
    cell.run(0.1)
    assert not cell.controller.moving and cell.controller.reason is Reason.ROBOT_RECOVERING
    assert cell.command(sequence=2).reason is Reason.ROBOT_NOT_READY
    cell.mode = RobotMode.READY
    cell.run(0.06)
    assert cell.command(sequence=2).reason is Reason.BEFORE_HALT
    cell.run(0.2)
    assert cell.command(sequence=2).accepted, "the goal goes on"


@pytest.mark.parametrize(
    "change, reason",
    [
        (dict(mode=RobotMode.USER_STOPPED), Reason.USER_STOPPED),
        (dict(gripper_problem="the fingers do not move"), Reason.GRIPPER_BLOCKED),
    ],
)
def test_a_user_stop_and_a_blocked_gripper_halt_and_end_the_goal_without_a_fault(
    cell, change, reason
):
    assert cell.command().accepted
    vars(cell).update(change)
    cell.run(0.1)
    assert cell.calls == ["move", "stop"] and cell.controller.reason is reason
    cell.mode, cell.gripper_problem = RobotMode.READY, ""
    cell.run(0.2)
    assert cell.command(sequence=2).reason is Reason.FOREIGN_GOAL
    assert cell.command(goal="next").accepted


def test_after_a_reset_nothing_counts_that_was_seen_before_the_robot_was_ready(cell):
    """The user stop is released between the reset and the next reading."""
    cell.mode = RobotMode.USER_STOPPED
    cell.run(0.1)
    cell.broken = "read"
    cell.run(0.1)
    cell.broken = ""
    assert cell.controller.reset_fault(cell.time)
    seen = cell.time + 0.01
    cell.mode = RobotMode.READY
    cell.run(0.04)
    assert cell.command(goal="next", observation_stamp=seen).reason is Reason.BEFORE_HALT
    cell.run(0.2)
    assert cell.command(goal="next").accepted


def test_a_reset_ends_what_was_planned_before_it(cell):
    cell.command(offset=(np.nan, 0, 0))
    cell.run(0.3)
    assert cell.controller.reset_fault(cell.time)
    assert cell.command(goal="next").reason is Reason.BEFORE_HALT


def test_a_robot_that_is_not_ready_yet_is_no_fault(cell):
    """Its mode may have changed since the last state was read."""
    cell.broken = "not ready"
    verdict = cell.command()
    assert verdict.reason is Reason.ROBOT_NOT_READY and "being cleared" in verdict.text
    assert not cell.controller.fault and not cell.controller.moving
    cell.broken = ""
    cell.run(0.1)
    assert cell.command(2).accepted
