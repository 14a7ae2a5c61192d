# SPDX-License-Identifier: Apache-2.0
"""Measured states that cannot follow each other, and motions that are too fast."""

from dataclasses import replace

import numpy as np
import pytest

from vjepa2_ros.robot.driver import RobotMode, RobotState
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.robot.state_watch import StateWatch
from vjepa2_ros.settings.controller import MotionLimits

DOWN = np.array([1.0, 0.0, 0.0, 0.0])
LIMITS = MotionLimits()


def state(stamp, x, **change):
    return replace(RobotState(np.array([x, 0.0, 0.2]), DOWN, 0.0, stamp), **change)


def reasons(*states):
    watch = StateWatch()
    verdicts = [watch.check(state, LIMITS) for state in states]
    return [verdict.reason if verdict else None for verdict in verdicts]


def moving(speed, mode=RobotMode.READY, start=0.0, x=0.4):
    """States of a quarter of a second at 50 Hz."""
    return [state(start + 0.02 * n, x + 0.02 * n * speed, mode=mode) for n in range(13)]


def test_a_position_that_no_motion_explains_is_a_jump():
    assert reasons(state(1.0, 0.4), state(1.02, 0.7)) == [None, Reason.STATE_JUMPED]
    assert reasons(state(1.0, 0.4), state(1.3, 0.45)) == [None, None]


def test_noise_of_states_with_close_stamps_is_no_jump():
    assert reasons(state(1.0, 0.4), state(1.0001, 0.405)) == [None, None]


def test_a_state_that_is_repeated_or_out_of_order_is_ignored():
    states = state(1.0, 0.4), state(1.0, 0.7), state(0.6, 0.7), state(1.02, 0.4)
    assert reasons(*states) == [None] * 4


def test_a_clock_that_is_set_back_is_a_jump_once():
    verdicts = reasons(state(10.0, 0.4), state(5.0, 0.4), state(5.02, 0.4))
    assert verdicts == [None, Reason.STATE_JUMPED, None]


def test_after_a_jump_states_are_compared_with_the_new_place():
    verdicts = reasons(state(1.0, 0.4), state(1.02, 0.7), *moving(0.1, start=1.04, x=0.7))
    assert verdicts == [None, Reason.STATE_JUMPED] + [None] * 13


@pytest.mark.parametrize("speed, fast", [(0.48, False), (0.52, True), (-0.52, True)])
def test_a_motion_faster_than_allowed_is_found_within_the_window(speed, fast):
    found = reasons(*moving(speed))
    assert set(found) == ({None, Reason.SPEED_TOO_HIGH} if fast else {None})
    assert not fast or found.index(Reason.SPEED_TOO_HIGH) in (5, 6)


def test_a_robot_that_a_person_guides_may_be_fast_and_does_not_stay_so_when_released():
    guided = moving(1.5, RobotMode.USER_STOPPED)
    released = moving(0.0, start=0.26, x=float(guided[-1].position[0]))
    assert set(reasons(*guided, *released)) == {None}


def test_noise_that_averages_out_is_no_speed():
    trembling = [state(0.02 * n, 0.4 + 0.015 * (n % 2)) for n in range(30)]
    assert set(reasons(*trembling)) == {None}
