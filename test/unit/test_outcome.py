# SPDX-License-Identifier: Apache-2.0
"""Success and causes of failure, on traces written by hand."""

import numpy as np
import pytest

from vjepa2_ros.simulation.simulator import GRASP_HEIGHTS, REST_HEIGHTS
from vjepa2_ros.tasks import load_task
from vjepa2_ros.tasks.outcome import Cause
from vjepa2_ros.tasks.task import Episode
from vjepa2_ros.tasks.truth import Trace, Truth

CUP, AWAY = np.array([0.5, 0.1]), np.array([0.4, -0.1])
TARGET = np.array([0.5, -0.1, REST_HEIGHTS[0]])
FREE = np.array([0.5, 0.1, 0.3])
AT_CUP = np.array([*CUP, GRASP_HEIGHTS[0]])


def moment(hand=FREE, place=CUP, lift=0.0, held=False, commanded=0.0, tilt=0.0):
    """A second with the cup at a place, and the box out of the way."""
    objects = np.array([[*place, REST_HEIGHTS[0] + lift], [*AWAY, REST_HEIGHTS[1]]])
    return hand, objects, held, commanded, tilt


def trace(*moments, per_second=10):
    truths = []
    for hand, objects, held, commanded, tilt in moments:
        for _ in range(per_second):
            truths.append(
                Truth(
                    len(truths) / per_second,
                    np.asarray(hand, float),
                    commanded,
                    commanded,
                    objects,
                    np.array([tilt, 0.0]),
                    np.array([held, False]),
                )
            )
    return Trace(truths)


GRASPED = moment(AT_CUP, held=True, commanded=1.0)
LIFTED = moment(AT_CUP + (0, 0, 0.06), lift=0.06, held=True, commanded=1.0)
CARRIED = moment(TARGET + (0, 0, 0.07), TARGET[:2], 0.06, held=True, commanded=1.0)
PLACED = moment(TARGET + (0, 0, 0.02), TARGET[:2])


def judge(task, *moments, refused=False, target=TARGET):
    episode = Episode(0, "cup", None, (), np.asarray(target, float))
    return load_task(task).outcome(episode, trace(*moments), refused)


def test_placed_counts_when_it_was_lifted_released_upright_and_near():
    outcome = judge("pick_and_place", moment(), moment(AT_CUP), GRASPED, LIFTED, CARRIED, PLACED)
    assert outcome.success and outcome.cause is None and outcome.distance < 1e-6


@pytest.mark.parametrize(
    ("last", "cause"),
    [
        (moment(TARGET, TARGET[:2], held=True, commanded=1.0), Cause.OUT_OF_TIME),
        (moment(TARGET, TARGET[:2], tilt=1.5), Cause.DROPPED),
        (moment(TARGET, TARGET[:2] + (0.0, 0.05)), Cause.DROPPED),
    ],
)
def test_held_fallen_or_too_far_is_not_placed(last, cause):
    outcome = judge("pick_and_place", moment(), GRASPED, LIFTED, CARRIED, last)
    assert not outcome.success and outcome.cause is cause


def test_an_object_that_was_pushed_to_its_target_is_not_placed():
    outcome = judge("pick_and_place", moment(), moment(AT_CUP), PLACED)
    assert not outcome.success and outcome.cause is Cause.PUSHED_AWAY


def test_grasped_counts_when_it_is_held_and_lifted_for_the_last_second():
    assert judge("grasp", moment(), GRASPED, LIFTED, LIFTED).success
    low = moment(AT_CUP, lift=0.02, held=True, commanded=1.0)
    assert not judge("grasp", moment(), GRASPED, LIFTED, low).success
    assert not judge("grasp", moment(), GRASPED, GRASPED).success
    assert not judge("grasp", moment(), GRASPED, LIFTED, moment(AT_CUP)).success


def test_an_object_is_carried_to_its_goal_when_it_is_held_there():
    goal = TARGET + (0, 0, 0.06)
    assert judge("reach_with_object", LIFTED, CARRIED, target=goal).success
    outcome = judge("reach_with_object", LIFTED, LIFTED, target=goal)
    assert (outcome.success, outcome.cause) == (False, Cause.OUT_OF_TIME)
    assert not judge("reach_with_object", LIFTED, CARRIED, PLACED, target=goal).success


@pytest.mark.parametrize(
    ("moments", "cause"),
    [
        ((moment(),), Cause.NEVER_AT_OBJECT),
        ((moment(), moment(AT_CUP)), Cause.CLOSED_LATE),
        ((moment(), moment(commanded=1.0)), Cause.CLOSED_EARLY),
        ((moment(), moment(AT_CUP), moment(FREE, CUP + 0.05)), Cause.PUSHED_AWAY),
        ((moment(), moment(AT_CUP), GRASPED), Cause.OUT_OF_TIME),
        ((moment(), GRASPED, LIFTED, moment(commanded=1.0)), Cause.DROPPED),
        ((moment(), GRASPED, LIFTED, moment(commanded=0.0)), Cause.OPENED_EARLY),
        ((moment(), GRASPED, LIFTED), Cause.OUT_OF_TIME),
    ],
)
def test_a_failure_is_named_after_the_first_thing_that_went_wrong(moments, cause):
    outcome = judge("pick_and_place", *moments)
    assert not outcome.success and outcome.cause is cause


def test_a_goal_that_ended_with_refused_commands_says_so():
    assert judge("pick_and_place", moment(), refused=True).cause is Cause.REFUSED
    assert judge("reach", moment(), refused=True).cause is Cause.REFUSED
