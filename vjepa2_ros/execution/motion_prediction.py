# SPDX-License-Identifier: Apache-2.0
"""Where a robot in motion will be when a command that is being planned is sent."""

from __future__ import annotations

import numpy as np
import torch

from vjepa2_ros.execution.robot_report import RobotReport
from vjepa2_ros.execution.state_history import StateHistory

SPEED_WINDOW = 0.1
"""Time over which the speed is measured [s]."""


def state_at(
    time: float,
    robot: RobotReport,
    history: StateHistory[RobotReport],
    target: np.ndarray,
    commanded_gripper: bool = False,
) -> torch.Tensor:
    """The state [7] expected at a time, at the present speed but not past the target.

    Args:
        time: [s, the clock of the stamps]; one that has passed gives the present state.
        robot: newest report.
        history: reports of the last seconds.
        target: position [3] that the robot is moving to [m].
        commanded_gripper: see `RobotReport.state_vector`.
    """
    state = robot.state_vector(commanded_gripper)
    before = history.nearest(robot.stamp - SPEED_WINDOW, tolerance=SPEED_WINDOW / 2)
    if before is None:
        return state
    elapsed = max(robot.stamp - before.stamp, 1e-3)
    velocity = (state[:3] - before.state_vector()[:3]) / elapsed
    way = velocity * max(0.0, time - robot.stamp)
    to_target = torch.from_numpy(target).float() - state[:3]
    state[:3] += to_target if way.norm() > to_target.norm() else way
    return state
