# SPDX-License-Identifier: Apache-2.0
"""What goal execution hears from the motion controller."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vjepa2_ros.robot.driver import RobotMode, RobotState
from vjepa2_ros.robot.reason import Reason

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class RobotReport:
    """The robot's measured state and what its controller did last.

    Attributes:
        state: measured state of the tool centre point, with its stamp [s].
        frame: base frame of the pose.
        moving: whether the robot is moving to the target of an accepted command.
        accepted: goal id and sequence number of the last accepted command.
        refused: the same of the last refused command.
        refused_reason: why it was refused.
        halts: how many times all goals set before were ended.
        last_halt: when that was last [s, the clock of the stamps]; minus infinity for never.
        reason: what the controller did last.
        message: the same in a sentence.
        fault_reason: the latched fault, NONE without one.
        fault: the same in a sentence, empty without one.
    """

    state: RobotState
    frame: str = ""
    moving: bool = False
    accepted: tuple[str, int] = ("", 0)
    refused: tuple[str, int] = ("", 0)
    refused_reason: Reason = Reason.NONE
    halts: int = 0
    last_halt: float = -math.inf
    reason: Reason = Reason.NONE
    message: str = ""
    fault_reason: Reason = Reason.NONE
    fault: str = ""

    @property
    def stamp(self) -> float:
        """When the state was measured [s]."""
        return self.state.stamp

    @property
    def is_ready(self) -> bool:
        """Whether the robot itself takes commands."""
        return self.state.mode == RobotMode.READY

    @property
    def has_fault(self) -> bool:
        """Whether a fault is latched."""
        return bool(self.fault) or self.fault_reason != Reason.NONE

    def state_vector(self, commanded_gripper: bool = False) -> torch.Tensor:
        """The state as the world model takes it: float32 [7], see `world_model.poses`.

        Args:
            commanded_gripper: with what the gripper was told last, where that is known, instead of
                the measured closedness.
        """
        # Who only asks the stack needs neither, and torch takes seconds to import.
        import torch

        from vjepa2_ros.world_model.poses import state_from_pose

        state = self.state
        closedness = state.gripper_closedness
        if commanded_gripper and state.commanded_closedness is not None:
            closedness = state.commanded_closedness
        values = state_from_pose(state.position, state.quaternion_xyzw, closedness)
        return torch.from_numpy(values).float()
