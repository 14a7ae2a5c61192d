# SPDX-License-Identifier: Apache-2.0
"""Checks a request for a goal before anything is encoded for it."""

from __future__ import annotations

from collections.abc import Sequence

from vjepa2_ros.execution.goal_status import Note
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.settings.declaration import parameters_of
from vjepa2_ros.settings.planning import GRIPPER_WORDS, LoopSettings

MAX_STEPS = parameters_of(LoopSettings)["steps_per_subgoal"].maximum
"""Most steps of one sub-goal."""


def refusal_of(
    images: int,
    steps: Sequence[int],
    gripper: Sequence[str],
    settings: LoopSettings,
    states: int = 0,
) -> Note | None:
    """Why a request cannot be a goal; None if it can.

    Args:
        images: number of goal images, one for each sub-goal.
        steps: for each sub-goal; empty for the default.
        gripper: one of `GRIPPER_WORDS` for each sub-goal; empty for planned.
        settings: of the loop.
        states: number of states of the robot that come with the images.
    """
    if not images:
        message = "no goal image was sent; send one, or one for each sub-goal"
        return Note(Reason.NO_GOAL_IMAGE, message)
    if images > settings.max_subgoals:
        message = (
            f"{images} images were sent, and at most {settings.max_subgoals} are allowed: send "
            "fewer, or raise max_subgoals"
        )
        return Note(Reason.TOO_MANY_SUBGOALS, message)
    if steps and (len(steps) != images or min(steps) < 1 or max(steps) > MAX_STEPS):
        message = (
            f"steps {list(steps[: images + 1])} do not fit {images} image(s): give a number from 1 "
            f"to {MAX_STEPS} for each, or none"
        )
        return Note(Reason.STEPS_MISMATCH, message)
    if gripper and len(gripper) != images:
        message = (
            f"the gripper is given for {len(gripper)} sub-goal(s) of {images}: give one of "
            f"{', '.join(GRIPPER_WORDS)} for each, or none"
        )
        return Note(Reason.GRIPPER_MISMATCH, message)
    if (states or settings.state_weight) and states != images:
        message = (
            f"{states} states of the robot came with {images} image(s): give one for each, or none "
            "and state_weight 0"
        )
        return Note(Reason.INVALID, message)
    if unknown := [text for text in gripper if text not in GRIPPER_WORDS]:
        message = f"the gripper may be {', '.join(GRIPPER_WORDS)}, not {unknown[0]!r}"
        return Note(Reason.GRIPPER_MISMATCH, message)
    return None
