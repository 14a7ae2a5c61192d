# SPDX-License-Identifier: Apache-2.0
"""One decision of the receding-horizon loop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from vjepa2_ros.planning.candidates import Candidates


@dataclass(frozen=True)
class Step:
    """One decision.

    Attributes:
        action: what to do now [7], float32 on the CPU.
        target_state: where that leads [7], absolute, base frame. Its rotation is that of the first
            observation, turned by what was planned since, so that rotation errors, at a contact for
            instance, do not accumulate. Without a change of the gripper the target keeps the
            closedness of the target before.
        energy: distance of the present latent to the current sub-goal's.
        predicted_energy: the expected one after the planned actions.
        subgoal: number of the current sub-goal, from 0.
        step: number of this step, from 1.
        finished: None while the loop continues; "step_limit" with the last step, whose action is
            still to be executed; "reached" when the energy does not fall any more, or the success
            probe sees the goal reached, with a zero action that holds the present state.
        plan_seconds: time of the plan [s].
        evaluations: number of sequences that the plan evaluated.
        planned: the whole plan [H, 7], whose first action `action` is but for a gripper that is
            told to close, or for a plan that was not worth it.
        surprise: distance of the present latent to the one predicted from the observation before
            and the motion since; NaN with the first observation.
        candidates: what the search looked at, where it was kept.
        answers: of the success probe to the present latent and the current sub-goal; empty where
            it was not asked.
    """

    action: Tensor
    target_state: Tensor
    energy: float
    predicted_energy: float
    subgoal: int
    step: int
    finished: Literal["reached", "step_limit"] | None
    plan_seconds: float
    evaluations: int = 0
    planned: Tensor | None = None
    surprise: float = math.nan
    candidates: Candidates | None = None
    answers: Mapping[str, float] = field(default_factory=dict)
