# SPDX-License-Identifier: Apache-2.0
"""The gate between planner and robot: every rule, and that a refusal changes nothing."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vjepa2_ros.robot.driver import RobotState
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.robot.safety import MAX_GAP, MAX_GOAL_ID, CommandGate, MotionCommand
from vjepa2_ros.settings.cell import MotionCell, Workspace
from vjepa2_ros.settings.controller import MotionLimits
from vjepa2_ros.settings.declaration import parameters_of
from vjepa2_ros.settings.planning import ExecutionSettings

NOW = 1000.0
DOWN = np.array([1.0, 0.0, 0.0, 0.0])
STATE = RobotState(np.array([0.5, 0.0, 0.3]), DOWN, 0.0, NOW - 0.01)
COMMAND = MotionCommand(
    "goal-1", 1, NOW - 0.2, np.array([0.55, -0.05, 0.25]), DOWN, 0.5, frame="base"
)


SECONDS = itertools.count(1.0)


@pytest.fixture
def gate():
    return CommandGate(MotionLimits())


def ask(gate, command, state=STATE, now=NOW, steady=None):
    """The gate's verdict; by default a second after the one before."""
    return gate.check(command, state, now, next(SECONDS) if steady is None else steady)


def turned(angle):
    return (Rotation.from_rotvec([0, 0, angle]) * Rotation.from_quat(DOWN)).as_quat()


def test_a_valid_command_is_accepted_with_its_target(gate):
    verdict = ask(gate, COMMAND)
    assert verdict.accepted and verdict.reason is Reason.ACCEPTED
    np.testing.assert_array_equal(verdict.position, COMMAND.position)
    assert verdict.lifetime == gate.limits.lifetime
    assert (gate.goal_id, gate.sequence) == ("goal-1", 1)


def test_a_lifetime_of_its_own_is_kept(gate):
    assert ask(gate, replace(COMMAND, lifetime=1.5)).lifetime == 1.5


def test_the_longest_lifetime_that_a_planner_may_give_is_accepted(gate):
    longest = parameters_of(ExecutionSettings)["command_lifetime"].maximum
    assert ask(gate, replace(COMMAND, lifetime=longest)).accepted


REFUSED = {
    "a target that is not finite": (
        dict(position=np.array([0.5, np.nan, 0.3])), Reason.NOT_FINITE, True),
    "an orientation that is not finite": (
        dict(quaternion_xyzw=np.array([np.inf, 0, 0, 0])), Reason.NOT_FINITE, True),
    "a gripper that is not finite": (
        dict(gripper_closedness=float("nan")), Reason.NOT_FINITE, True),
    "a quaternion that is not of unit length": (
        dict(quaternion_xyzw=np.array([0.5, 0, 0, 0])), Reason.INVALID, True),
    "a gripper beyond closed": (dict(gripper_closedness=1.2), Reason.INVALID, True),
    "a negative lifetime": (dict(lifetime=-1.0), Reason.INVALID, True),
    "a lifetime without end": (dict(lifetime=2.0**31 - 1), Reason.INVALID, True),
    "no goal id": (dict(goal_id=""), Reason.INVALID, True),
    "a sequence number of zero": (dict(sequence=0), Reason.INVALID, True),
    "a goal id without end": (dict(goal_id="g" * (MAX_GOAL_ID + 1)), Reason.INVALID, True),
    "a new goal that begins with a leap": (
        dict(sequence=MAX_GAP + 1), Reason.OUT_OF_SEQUENCE, False),
    "another frame": (dict(frame="camera"), Reason.WRONG_FRAME, False),
    "an old observation": (dict(observation_stamp=NOW - 60), Reason.STALE, False),
    "an observation from the future": (
        dict(observation_stamp=NOW + 5), Reason.FROM_THE_FUTURE, False),
    "a step beyond the limit": (
        dict(position=np.array([0.5, 0.0, 0.45])), Reason.STEP_TOO_LARGE, True),
    "a turn beyond the limit": (
        dict(quaternion_xyzw=turned(0.8)), Reason.ROTATION_TOO_LARGE, True),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_command_is_refused_for(name, gate):
    change, reason, violation = REFUSED[name]
    verdict = ask(gate, replace(COMMAND, **change))
    assert not verdict.accepted and verdict.position is None
    assert verdict.reason is reason and verdict.violation is violation
    assert reason.text in verdict.text
    assert (gate.goal_id, gate.sequence) == ("", 0), "a refused command must change nothing"


def test_a_turn_within_the_limit_is_accepted(gate):
    assert ask(gate, replace(COMMAND, quaternion_xyzw=turned(0.3))).accepted


def test_the_same_orientation_with_the_opposite_sign_is_no_turn(gate):
    assert ask(gate, replace(COMMAND, quaternion_xyzw=-DOWN)).accepted


def test_a_target_outside_the_workspace_is_clamped_and_said_so(gate):
    low = replace(STATE, position=np.array([0.5, 0.0, 0.05]))
    verdict = ask(gate, replace(COMMAND, position=np.array([0.5, 0.0, -0.02])), low)
    assert verdict.accepted and verdict.reason is Reason.CLAMPED
    np.testing.assert_allclose(verdict.position, [0.5, 0.0, gate.limits.cell.workspace.lower[2]])


OUTSIDE = np.array([0.9, 0.0, 0.36])
"""24 cm outside of the workspace."""


def test_a_robot_farther_out_than_a_step_is_led_straight_in_by_no_more_than_the_command(gate):
    outside = replace(STATE, position=OUTSIDE)
    nearest = np.array([0.66, 0.05, 0.36])
    verdict = ask(gate, replace(COMMAND, position=OUTSIDE + [-0.06, 0.05, 0.0]), outside)
    assert verdict.reason is Reason.CLAMPED
    np.testing.assert_allclose(verdict.position, OUTSIDE + (nearest - OUTSIDE) * 0.06 / 0.24)


@pytest.mark.parametrize(
    "offset", [(0.05, 0.0, 0.0), (0.0, 0.05, 0.0), (0.0, 0.0, 0.0), (-0.01, 0.0, 0.09)]
)
def test_a_robot_farther_out_than_a_step_is_not_led_out_or_round_the_workspace(offset, gate):
    outside = replace(STATE, position=OUTSIDE)
    verdict = ask(gate, replace(COMMAND, position=OUTSIDE + offset), outside)
    assert verdict.reason is Reason.STEP_TOO_LARGE and "24.0 cm outside" in verdict.text


def test_a_robot_just_outside_is_led_in_by_any_command(gate):
    outside = replace(STATE, position=np.array([0.7, 0.0, 0.3]))
    verdict = ask(gate, replace(COMMAND, position=np.array([0.75, 0.03, 0.3])), outside)
    assert verdict.reason is Reason.CLAMPED
    np.testing.assert_allclose(verdict.position, [0.66, 0.03, 0.3])


WIDE = MotionLimits(cell=MotionCell(workspace=Workspace(lower=(0.33, -0.25, -0.5))))
"""A workspace that reaches through the table."""


def test_no_target_lies_below_the_table_whatever_the_workspace_allows():
    gate = CommandGate(replace(WIDE, table_height=0.02))
    low = replace(STATE, position=np.array([0.5, 0.0, 0.05]))
    verdict = ask(gate, replace(COMMAND, position=np.array([0.5, 0.0, 0.01])), low)
    assert verdict.reason is Reason.CLAMPED and "0.020 m" in verdict.text
    np.testing.assert_allclose(verdict.position, [0.5, 0.0, 0.02])


@pytest.mark.parametrize(
    "depth, height", [(0.01, 0.04), (0.03, 0.02), (0.09, 0.0), (0.3, -0.25)]
)
def test_a_robot_that_is_measured_below_the_table_is_led_up(depth, height):
    gate = CommandGate(WIDE)
    below = replace(STATE, position=np.array([0.5, 0.0, -depth]))
    verdict = ask(gate, replace(COMMAND, position=below.position + [0.0, 0.0, 0.05]), below)
    assert verdict.accepted
    np.testing.assert_allclose(verdict.position, [0.5, 0.0, height], atol=1e-12)


def test_a_table_above_the_workspace_is_refused_as_a_setting():
    with pytest.raises(ValueError, match="table_height"):
        MotionLimits(table_height=0.36)


@pytest.mark.parametrize(
    "state, reason",
    [
        (replace(STATE, stamp=NOW - 2), Reason.STATE_STALE),
        (replace(STATE, position=np.array([np.nan, 0, 0])), Reason.STATE_INVALID),
        (replace(STATE, quaternion_xyzw=np.zeros(4)), Reason.STATE_INVALID),
        (replace(STATE, stamp=NOW + 2), Reason.STATE_FROM_THE_FUTURE),
    ],
)
def test_no_motion_on_a_state_that_cannot_be_trusted(state, reason, gate):
    assert ask(gate, COMMAND, state).reason is reason


def test_sequence_numbers_must_rise_within_a_goal(gate):
    assert ask(gate, replace(COMMAND, sequence=5)).accepted
    for sequence in (5, 4):
        verdict = ask(gate, replace(COMMAND, sequence=sequence))
        assert verdict.reason is Reason.OUT_OF_SEQUENCE and not verdict.violation
    assert ask(gate, replace(COMMAND, sequence=6)).accepted


def test_a_new_goal_closes_the_one_before(gate):
    assert ask(gate, COMMAND).accepted
    assert ask(gate, replace(COMMAND, goal_id="goal-2")).accepted
    late = ask(gate, replace(COMMAND, sequence=2))
    assert late.reason is Reason.FOREIGN_GOAL and not late.violation


def test_after_a_halt_the_goal_is_over_but_a_new_one_is_served(gate):
    assert ask(gate, COMMAND).accepted
    gate.halt(COMMAND.observation_stamp - 0.1)
    assert ask(gate, replace(COMMAND, sequence=2)).reason is Reason.FOREIGN_GOAL
    assert ask(gate, replace(COMMAND, goal_id="goal-2")).accepted


def test_a_goal_whose_first_command_was_still_being_planned_at_a_halt_is_refused(gate):
    gate.halt(NOW - 0.1)
    verdict = ask(gate, COMMAND)
    assert verdict.reason is Reason.BEFORE_HALT and not verdict.violation
    assert ask(gate, replace(COMMAND, observation_stamp=NOW - 0.05)).accepted


def test_narrower_limits_apply_to_the_next_command(gate):
    gate.limits = replace(gate.limits, max_step=0.03)
    assert ask(gate, COMMAND).reason is Reason.STEP_TOO_LARGE


def test_a_goal_id_may_have_the_greatest_length(gate):
    assert ask(gate, replace(COMMAND, goal_id="g" * MAX_GOAL_ID)).accepted


def test_a_leap_of_the_sequence_number_does_not_end_the_goal(gate):
    assert ask(gate, replace(COMMAND, sequence=5)).accepted
    for sequence in (5 + MAX_GAP + 1, 2**64 - 1):
        verdict = ask(gate, replace(COMMAND, sequence=sequence))
        assert verdict.reason is Reason.OUT_OF_SEQUENCE and not verdict.violation
        assert gate.sequence == 5
    assert ask(gate, replace(COMMAND, sequence=5 + MAX_GAP)).accepted


def test_a_command_too_soon_after_the_last_accepted_one_is_refused(gate):
    assert ask(gate, COMMAND, steady=10.0).accepted
    for sequence, goal in ((2, "goal-1"), (1, "goal-2")):
        verdict = ask(gate, replace(COMMAND, sequence=sequence, goal_id=goal), steady=10.04)
        assert verdict.reason is Reason.TOO_FREQUENT and not verdict.violation
        assert "40.0 ms" in verdict.text and gate.goal_id == "goal-1"
    assert ask(gate, replace(COMMAND, sequence=2), steady=10.06).accepted


def test_the_rate_of_commands_is_not_measured_on_a_clock_that_may_be_set(gate):
    assert ask(gate, COMMAND, steady=10.0).accepted
    later = NOW + 0.3
    assert ask(gate, replace(COMMAND, sequence=2), now=later, steady=10.01).reason is (
        Reason.TOO_FREQUENT
    )
    back = replace(COMMAND, sequence=2, observation_stamp=NOW - 0.5)
    assert ask(gate, back, replace(STATE, stamp=NOW - 0.4), NOW - 0.3, steady=10.1).accepted


def test_a_refused_command_does_not_delay_the_next_one(gate):
    assert not ask(gate, replace(COMMAND, frame="camera"), steady=10.0).accepted
    assert ask(gate, COMMAND, steady=10.0).accepted


@pytest.mark.parametrize(
    "wrench, accepted",
    [
        ((0.0, 0.0, -41.0, 0.0, 0.0, 0.0), False),
        ((30.0, 30.0, 0.0, 0.0, 0.0, 0.0), False),
        ((0.0, 0.0, 0.0, 0.0, 16.0, 0.0), False),
        ((0.0, 0.0, 39.0, 0.0, 14.0, 0.0), True),
    ],
)
def test_a_command_is_refused_while_something_presses_hard_on_the_robot(wrench, accepted, gate):
    verdict = ask(gate, COMMAND, replace(STATE, wrench=np.array(wrench)))
    assert verdict.accepted is accepted and not verdict.violation
    assert accepted or verdict.reason is Reason.FORCE_TOO_LARGE
