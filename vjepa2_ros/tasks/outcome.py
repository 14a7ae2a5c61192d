# SPDX-License-Identifier: Apache-2.0
"""Success, and causes of failure, from the truth over an episode."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from vjepa2_ros.simulation.simulator import GRASP_HEIGHTS, REST_HEIGHTS
from vjepa2_ros.tasks.truth import Trace

SUCCESS_DISTANCE = 0.04
"""Distance to the target within which hand or object count as there [m]."""
LIFT = 0.03
"""Height above its place on the table from which an object counts as lifted [m]."""
HOLD_TIME = 1.0
"""Time for which a grasp has to hold [s]."""
UPRIGHT = np.radians(15.0)
"""Largest tilt of an object that stands [rad]."""
_AT_OBJECT = 0.03  # distance of the tool from a grasp that counts as at the object [m]
_PUSHED = 0.02  # way of an object that was never held which counts as pushed [m]
_CLOSED = 0.5  # commanded closedness that counts as closing


class Cause(Enum):
    """Why an episode failed; the values are for people."""

    NEVER_AT_OBJECT = "never at the object"
    PUSHED_AWAY = "pushed away"
    CLOSED_EARLY = "closed early"
    CLOSED_LATE = "closed late"
    DROPPED = "dropped"
    OPENED_EARLY = "opened early"
    OUT_OF_TIME = "out of time"
    REFUSED = "refused by the gate"


@dataclass(frozen=True)
class Outcome:
    """How an episode ended.

    Attributes:
        success: strict, see the tasks.
        distance: of hand or object to the target at the end [m].
        cause: of a failure; None after success.

    Raises:
        ValueError: a success has a cause or a failure none, or the distance is no finite number.
    """

    success: bool
    distance: float
    cause: Cause | None = None

    def __post_init__(self) -> None:
        if self.success != (self.cause is None):
            raise ValueError(f"a failure has a cause and a success none, got {self!r}")
        if not (np.isfinite(self.distance) and self.distance >= 0):
            raise ValueError(f"the distance must be a finite number from 0, got {self!r}")


def lifts(trace: Trace, index: int) -> np.ndarray:
    """Heights [T] of an object above where it stands on the table [m]."""
    return trace.objects[:, index, 2] - REST_HEIGHTS[index]


def was_lifted(trace: Trace, index: int) -> bool:
    """Whether an object was held and lifted at some time."""
    return bool((trace.held[:, index] & (lifts(trace, index) >= LIFT)).any())


def cause_of(trace: Trace, index: int, target: np.ndarray, refused: bool) -> Cause:
    """Why an episode with an object failed: the first thing that went wrong.

    Args:
        trace: of the episode.
        index: of the object.
        target: where the object should have gone to [3] in metres.
        refused: whether the goal ended because commands were refused.
    """
    if refused:
        return Cause.REFUSED
    held = trace.held[:, index]
    if not was_lifted(trace, index):
        first_held = int(held.argmax()) if held.any() else len(held) - 1
        grasps = trace.objects[:, index] + (0.0, 0.0, GRASP_HEIGHTS[index] - REST_HEIGHTS[index])
        near = np.linalg.norm(trace.hand - grasps, axis=1) < _AT_OBJECT
        way = np.linalg.norm(trace.objects[: first_held + 1, index, :2] - grasps[0, :2], axis=1)
        closing = trace.commanded_closedness > _CLOSED
        if way.max() > _PUSHED:
            return Cause.PUSHED_AWAY
        if closing.any() and not near[: int(closing.argmax()) + 1].any():
            return Cause.CLOSED_EARLY
        if not near.any():
            return Cause.NEVER_AT_OBJECT
        return Cause.OUT_OF_TIME if closing.any() else Cause.CLOSED_LATE
    if held[-1]:
        return Cause.OUT_OF_TIME
    lost = len(held) - 1 - int(held[::-1].argmax())
    opened = trace.commanded_closedness[min(lost + 1, len(held) - 1)] < _CLOSED
    there = np.linalg.norm(trace.objects[lost, index, :2] - target[:2]) <= SUCCESS_DISTANCE
    return Cause.OPENED_EARLY if opened and not there else Cause.DROPPED
