# SPDX-License-Identifier: Apache-2.0
"""What a plan is made from: an image's latent, and the robot's state measured with the image."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vjepa2_ros.execution.goal import Goal
from vjepa2_ros.execution.goal_status import GoalState, Note
from vjepa2_ros.execution.motion_prediction import state_at
from vjepa2_ros.execution.robot_report import RobotReport
from vjepa2_ros.execution.state_history import StateHistory
from vjepa2_ros.planning.receding_horizon import RecedingHorizon
from vjepa2_ros.planning.step import Step
from vjepa2_ros.robot.reason import Reason


@dataclass(frozen=True)
class EncodedImage:
    """An encoded image.

    Attributes:
        latent: [N, D].
        stamp: when it was captured [s].
        encode_seconds: time the encoder took [s].
    """

    latent: torch.Tensor
    stamp: float
    encode_seconds: float


@dataclass(frozen=True)
class Observation:
    """What a plan is made from.

    Attributes:
        goal_id: goal at that time.
        loop: of that goal.
        image: encoded.
        state: measured with the image, [7]; with the closedness that the model was trained on.
        ahead: where a robot in motion is expected when the command is sent, [7]; None at rest.
        commanded_closedness: what the gripper was told last; None where the driver does not know.
        frame: base frame of the state.
        age: of the image when planning begins [s].
    """

    goal_id: str
    loop: RecedingHorizon
    image: EncodedImage
    state: torch.Tensor
    ahead: torch.Tensor | None
    commanded_closedness: float | None
    frame: str
    age: float

    def plan(self) -> Step:
        """Decide on the next step; see `RecedingHorizon.step` for what it raises."""
        return self.loop.step(
            self.image.latent, self.state, self.ahead, self.commanded_closedness
        )


def observation_of(
    goal: Goal,
    image: EncodedImage,
    now: float,
    robot: RobotReport | None,
    history: StateHistory[RobotReport],
) -> Observation | Note:
    """The observation that belongs to an image, or why it cannot be planned from.

    Args:
        goal: WAITING, or MOVING where plans overlap motions.
        image: newer than the end of the goal's last step.
        now: [s, the clock of the stamps].
        robot: newest report of the controller.
        history: reports of the last seconds.
    """
    report = history.nearest(image.stamp, goal.settings.state_tolerance)
    if report is None or robot is None:
        message = "no robot_state was measured at the time of the image"
        return Note(Reason.NO_MATCHING_STATE, message)
    if problem := report.state.problem() or robot.state.problem():
        return Note(Reason.STATE_INVALID, problem)
    commanded = goal.loop.world_model.predictor.config.commanded_gripper
    ahead = None
    if goal.state == GoalState.MOVING:
        # The command will come as late after its image as the last one did.
        moment = image.stamp + goal.command_latency
        ahead = state_at(moment, robot, history, goal.target, commanded)
    return Observation(
        goal_id=goal.goal_id,
        loop=goal.loop,
        image=image,
        state=report.state_vector(commanded),
        ahead=ahead,
        commanded_closedness=report.state.commanded_closedness,
        frame=report.frame,
        age=now - image.stamp,
    )
