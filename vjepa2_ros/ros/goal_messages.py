# SPDX-License-Identifier: Apache-2.0
"""Between the messages about goals and the records of goal execution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from vjepa2_ros.execution.goal_status import GoalStatus
from vjepa2_ros.execution.robot_report import RobotReport
from vjepa2_ros.msg import Command, Goal, Latent, PlanningStatus, RobotState, ToolState
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.robot.safety import MotionCommand
from vjepa2_ros.ros.conversions import duration, pose_message, robot_state, seconds, stamp


def robot_report(message: RobotState) -> RobotReport:
    """What goal execution takes from a message of the controller."""
    return RobotReport(
        state=robot_state(message),
        frame=message.header.frame_id,
        moving=message.moving,
        accepted=(message.goal_id, message.sequence),
        refused=(message.refused_goal_id, message.refused_sequence),
        refused_reason=Reason.of(message.refused_reason),
        halts=message.halts,
        last_halt=seconds(message.last_halt) or -math.inf,
        reason=Reason.of(message.reason),
        message=message.message,
        fault_reason=Reason.of(message.fault_reason),
        fault=message.fault,
    )


def command_message(command: MotionCommand, reason: Reason, sender: str) -> Command:
    """Message of a command of a process, with what it was planned from."""
    return Command(
        sender=sender,
        header=Header(stamp=stamp(command.observation_stamp), frame_id=command.frame),
        goal_id=command.goal_id,
        sequence=command.sequence,
        pose=pose_message(command.position, command.quaternion_xyzw),
        gripper_closedness=float(command.gripper_closedness),
        lifetime=duration(command.lifetime),
        reason=int(reason),
        message=reason.text,
    )


def status_message(status: GoalStatus, time: float, sender: str) -> PlanningStatus:
    """Message of a status that a process publishes at `time` [s]."""
    return PlanningStatus(
        sender=sender,
        header=Header(stamp=stamp(time)),
        goal_id=status.goal_id,
        state=int(status.state),
        subgoal=status.subgoal,
        subgoals=status.subgoals,
        step=status.step,
        energy=status.energy,
        predicted_energy=status.predicted_energy,
        surprise=status.surprise,
        observation_age=status.observation_age,
        encode_seconds=status.encode_seconds,
        plan_seconds=status.plan_seconds,
        command_latency=status.command_latency,
        reason=int(status.reason),
        message=status.message,
    )


def goal_message(
    goal_id: str,
    header: Header,
    images: Sequence[CompressedImage],
    latents: Sequence[Latent],
    steps: Sequence[int],
    gripper: Sequence[str],
    states: Sequence[ToolState],
) -> Goal:
    """Message of an accepted goal, with what belongs to each sub-goal."""
    return Goal(
        header=header,
        goal_id=goal_id,
        images=images,
        latents=latents,
        steps=steps,
        gripper=gripper,
        states=states,
    )


def tool_state_message(state: np.ndarray) -> ToolState:
    """Message of a state of the robot [7]."""
    from vjepa2_ros.world_model.poses import pose_from_state  # torch takes seconds to import

    position, quaternion, closedness = pose_from_state(state)
    return ToolState(pose=pose_message(position, quaternion), gripper_closedness=closedness)
