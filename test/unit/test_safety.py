# SPDX-License-Identifier: Apache-2.0
"""The gate between planner and robot: every rule, and that a refusal changes nothing."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vjepa2_ros.robot.driver import RobotState
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.robot.safety import CommandGate, MotionCommand
from vjepa2_ros.settings.controller import MotionLimits
from vjepa2_ros.settings.declaration import parameters_of
from vjepa2_ros.settings.planning import ExecutionSettings

NOW = 1000.0
DOWN = np.array([1.0, 0.0, 0.0, 0.0])
STATE = RobotState(np.array([0.5, 0.0, 0.3]), DOWN, 0.0, NOW - 0.01)
COMMAND = MotionCommand(
    "goal-1", 1, NOW - 0.2, np.array([0.55, -0.05, 0.25]), DOWN, 0.5, frame="base"
)


@pytest.fixture
def gate():
    return CommandGate(MotionLimits())


def turned(angle):
    return (Rotation.from_rotvec([0, 0, angle]) * Rotation.from_quat(DOWN)).as_quat()


def test_a_valid_command_is_accepted_with_its_target(gate):
    verdict = gate.check(COMMAND, STATE, NOW)
    assert verdict.accepted and verdict.reason is Reason.ACCEPTED
    np.testing.assert_array_equal(verdict.position, COMMAND.position)
    assert verdict.lifetime == gate.limits.lifetime
    assert (gate.goal_id, gate.sequence) == ("goal-1", 1)


def test_a_lifetime_of_its_own_is_kept(gate):
    assert gate.check(replace(COMMAND, lifetime=1.5), STATE, NOW).lifetime == 1.5


def test_the_longest_lifetime_that_a_planner_may_give_is_accepted(gate):
    longest = parameters_of(ExecutionSettings)["command_lifetime"].maximum
    assert gate.check(replace(COMMAND, lifetime=longest), STATE, NOW).accepted


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
    verdict = gate.check(replace(COMMAND, **change), STATE, NOW)
    assert not verdict.accepted and verdict.position is None
    assert verdict.reason is reason and verdict.violation is violation
    assert reason.text in verdict.text
    assert (gate.goal_id, gate.sequence) == ("", 0), "a refused command must change nothing"


def test_a_turn_within_the_limit_is_accepted(gate):
    assert gate.check(replace(COMMAND, quaternion_xyzw=turned(0.3)), STATE, NOW).accepted


def test_the_same_orientation_with_the_opposite_sign_is_no_turn(gate):
    assert gate.check(replace(COMMAND, quaternion_xyzw=-DOWN), STATE, NOW).accepted


def test_a_target_outside_the_workspace_is_clamped_and_said_so(gate):
    low = replace(STATE, position=np.array([0.5, 0.0, 0.05]))
    verdict = gate.check(replace(COMMAND, position=np.array([0.5, 0.0, -0.02])), low, NOW)
    assert verdict.accepted and verdict.reason is Reason.CLAMPED
    np.testing.assert_allclose(verdict.position, [0.5, 0.0, gate.limits.cell.workspace.lower[2]])


def test_a_robot_far_outside_the_workspace_is_not_pulled_in_by_a_large_step(gate):
    outside = replace(STATE, position=np.array([0.5, 0.0, 1.2]))
    verdict = gate.check(replace(COMMAND, position=np.array([0.5, 0.0, 1.15])), outside, NOW)
    assert verdict.reason is Reason.STEP_TOO_LARGE


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
    assert gate.check(COMMAND, state, NOW).reason is reason


def test_sequence_numbers_must_rise_within_a_goal(gate):
    assert gate.check(replace(COMMAND, sequence=5), STATE, NOW).accepted
    for sequence in (5, 4):
        verdict = gate.check(replace(COMMAND, sequence=sequence), STATE, NOW)
        assert verdict.reason is Reason.OUT_OF_SEQUENCE and not verdict.violation
    assert gate.check(replace(COMMAND, sequence=6), STATE, NOW).accepted


def test_a_new_goal_closes_the_one_before(gate):
    assert gate.check(COMMAND, STATE, NOW).accepted
    assert gate.check(replace(COMMAND, goal_id="goal-2"), STATE, NOW).accepted
    late = gate.check(replace(COMMAND, sequence=2), STATE, NOW)
    assert late.reason is Reason.FOREIGN_GOAL and not late.violation


def test_after_a_halt_the_goal_is_over_but_a_new_one_is_served(gate):
    assert gate.check(COMMAND, STATE, NOW).accepted
    gate.halt(COMMAND.observation_stamp - 0.1)
    assert gate.check(replace(COMMAND, sequence=2), STATE, NOW).reason is Reason.FOREIGN_GOAL
    assert gate.check(replace(COMMAND, goal_id="goal-2"), STATE, NOW).accepted


def test_a_goal_whose_first_command_was_still_being_planned_at_a_halt_is_refused(gate):
    gate.halt(NOW - 0.1)
    verdict = gate.check(COMMAND, STATE, NOW)
    assert verdict.reason is Reason.BEFORE_HALT and not verdict.violation
    assert gate.check(replace(COMMAND, observation_stamp=NOW - 0.05), STATE, NOW).accepted


def test_narrower_limits_apply_to_the_next_command(gate):
    gate.limits = replace(gate.limits, max_step=0.03)
    assert gate.check(COMMAND, STATE, NOW).reason is Reason.STEP_TOO_LARGE
