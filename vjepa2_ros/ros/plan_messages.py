# SPDX-License-Identifier: Apache-2.0
"""Plans as messages for those who watch; read by `markers.planned_step`."""

from __future__ import annotations

from array import array

import torch
from geometry_msgs.msg import Point
from std_msgs.msg import Header

from vjepa2_ros.execution.observation import Observation
from vjepa2_ros.msg import Plan
from vjepa2_ros.planning.step import Step
from vjepa2_ros.ros.conversions import stamp
from vjepa2_ros.ros.markers import MOST_CANDIDATES


def plan_message(observation: Observation, step: Step) -> Plan | None:
    """Message of a step and of what its search looked at; None if that was not kept.

    Args:
        observation: that it was planned from.
        step: with candidates.
    """
    if step.candidates is None or step.planned is None:
        return None
    candidates = step.candidates.thinned(MOST_CANDIDATES)
    start = observation.state if observation.ahead is None else observation.ahead
    planned = start[:3] + step.planned[:, :3].cumsum(0)
    closedness = (start[6] + step.planned[:, 6].cumsum(0)).clamp(0.0, 1.0)
    positions = start[:3] + candidates.actions[:, :, :3].cumsum(1)
    x, y, z = (float(value) for value in start[:3])
    return Plan(
        header=Header(stamp=stamp(observation.image.stamp), frame_id=observation.frame),
        goal_id=observation.goal_id,
        subgoal=step.subgoal,
        step=step.step,
        start=Point(x=x, y=y, z=z),
        horizon=len(step.planned),
        path=_numbers(planned),
        closedness=_numbers(closedness),
        energies=_numbers(candidates.energies),
        positions=_numbers(positions),
        evaluations=step.evaluations,
    )


def _numbers(values: torch.Tensor) -> array:
    return array("f", values.float().contiguous().numpy().tobytes())
