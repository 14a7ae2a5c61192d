# SPDX-License-Identifier: Apache-2.0
"""What comes of a sequence of actions in the simulated cell."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from vjepa2_ros.simulation.simulator import Simulator
from vjepa2_ros.world_model.poses import compose, pose_from_state

STEP_TIME = 1.0
"""Simulated time of one action, as in the recordings [s]."""


def carry_out(simulator: Simulator, actions: Tensor) -> Iterator[None]:
    """Carry out actions [H, 7] from the present state, and yield after each.

    Targets follow from each other, not from where the arm gets, and stay inside the workspace. The
    gripper starts from what it was told last.
    """
    target = torch.from_numpy(simulator.state()).float()
    target[6] = simulator.commanded_closedness
    for action in actions.cpu():
        target = compose(target, action)
        go_to(simulator, target)
        yield


def go_to(simulator: Simulator, target: Tensor) -> None:
    """Move for one step to a target state [7], or to the place in the workspace nearest to it."""
    workspace = simulator.config.workspace
    position, quaternion, closedness = pose_from_state(target.numpy())
    simulator.set_target(
        np.clip(position, workspace.lower, workspace.upper), quaternion, closedness
    )
    simulator.advance(STEP_TIME)
