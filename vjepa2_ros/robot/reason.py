# SPDX-License-Identifier: Apache-2.0
"""Codes of all that is decided about goals, commands and the robot, each with its short text.

They travel in the messages next to a sentence with the numbers (`msg/Reason.msg` lists the same
values), so that programs and tests compare codes and people read sentences. A value never changes
its meaning; new codes get new values.
"""

from __future__ import annotations

from enum import IntEnum


class Reason(IntEnum):
    """Why something was done, refused or ended; `text` says it in a few words."""

    text: str

    def __new__(cls, value: int, text: str) -> Reason:
        member = int.__new__(cls, value)
        member._value_ = value
        member.text = text
        return member

    @classmethod
    def of(cls, code: int) -> Reason:
        """The reason with a code; NONE for one that this version does not know."""
        member = cls._value2member_map_.get(code, cls.NONE)
        assert isinstance(member, cls)
        return member

    NONE = 0, "no reason given"

    # A command that the controller took.
    ACCEPTED = 1, "accepted"
    CLAMPED = 2, "accepted, target moved to the nearest point of the workspace"

    # A command that the controller refused.
    WRONG_FRAME = 10, "wrong frame"
    NOT_FINITE = 11, "not finite"
    INVALID = 12, "invalid value"
    STALE = 13, "stale"
    FROM_THE_FUTURE = 14, "from the future"
    FOREIGN_GOAL = 15, "goal is over"
    BEFORE_HALT = 16, "planned before the halt"
    OUT_OF_SEQUENCE = 17, "out of sequence"
    STATE_INVALID = 18, "robot state invalid"
    STATE_STALE = 19, "robot state stale"
    STATE_FROM_THE_FUTURE = 20, "robot state from the future"
    STEP_TOO_LARGE = 21, "step too large"
    ROTATION_TOO_LARGE = 22, "rotation too large"
    FAULT_LATCHED = 23, "fault latched"
    ROBOT_REFUSED = 24, "the robot refused"
    NO_ROBOT_STATE = 25, "no robot state yet"
    ROBOT_NOT_READY = 26, "robot not ready"
    UNREACHABLE = 27, "not reachable within the joint limits"
    FOREIGN_SENDER = 28, "sent by another process"
    TOO_FREQUENT = 29, "too soon after the last command"

    # What the controller did on its own.
    READY = 30, "ready"
    HALT_REQUESTED = 31, "halt requested"
    DEACTIVATED = 32, "controller deactivated"
    LIFETIME_EXPIRED = 33, "command outlived its lifetime"
    PLANNER_SILENT = 34, "planner silent"
    FAULT_RESET = 35, "fault reset"
    MANAGER_SILENT = 36, "lifecycle manager silent"
    ROBOT_RECOVERING = 37, "the robot recovers from an error of its own"
    USER_STOPPED = 38, "user stop pressed"
    GRIPPER_BLOCKED = 39, "gripper blocked"

    # Further faults.
    ROBOT_UNREADABLE = 40, "robot cannot be read"
    ROBOT_NOT_STOPPED = 41, "robot could not be stopped"
    RECOVERY_FAILED = 42, "robot could not be recovered"
    STATE_JUMPED = 43, "robot state jumped"
    SPEED_TOO_HIGH = 44, "robot faster than allowed"
    FORCE_TOO_LARGE = 45, "external force too large"
    ROBOT_ERROR = 46, "the robot reports an error"

    # A goal on its way.
    NO_GOAL = 50, "no goal"
    WAITING_FOR_IMAGE = 51, "waiting for an image"
    NO_IMAGE = 52, "no image arrives"
    IMAGE_STALE = 53, "image too old"
    NO_MATCHING_STATE = 54, "no robot state at the time of the image"
    LATENT_INVALID = 55, "latent of another model or shape, or not finite"
    WAITING_FOR_ROBOT = 56, "waiting for the robot to finish its last step"
    PLANNING = 57, "planning"
    STEP_SENT = 58, "step sent"

    # The end of a goal.
    NO_IMPROVEMENT = 60, "the energy no longer falls, or is not predicted to"
    ALL_STEPS_MADE = 61, "all steps were made"
    CANCEL_REQUESTED = 62, "cancel requested"
    STOP_REQUESTED = 63, "stop requested"
    REPLACED = 64, "replaced by a new goal"
    PLANNER_DEACTIVATED = 65, "planner deactivated"
    CONTROLLER_FAULT = 66, "the controller reports a fault"
    CONTROLLER_HALTED = 67, "the controller halted"
    PLAN_TOO_LATE = 68, "plan finished too late"
    PLANNING_FAILED = 69, "planning failed"
    COMMAND_NOT_TAKEN = 70, "command not taken"
    SURPRISED = 71, "what is seen is not what was predicted"
    SEEN_REACHED = 72, "the success probe sees the goal reached"

    # A request that was refused.
    NODE_INACTIVE = 80, "node not active"
    NO_GOAL_IMAGE = 81, "no goal image"
    TOO_MANY_SUBGOALS = 82, "too many sub-goals"
    STEPS_MISMATCH = 83, "steps do not fit the images"
    GRIPPER_MISMATCH = 84, "gripper does not fit the images"
    IMAGE_INVALID = 85, "image cannot be decoded"
    IMAGE_TOO_LARGE = 86, "image too large"
    ENCODER_UNAVAILABLE = 87, "encoder not available"
    ENCODER_TIMEOUT = 88, "encoder gave no answer in time"
    SUPERSEDED = 89, "another request came in between"
    INTERNAL_ERROR = 90, "internal error"

    # What a command was planned from.
    PLANNED_AT_REST = 100, "planned with the robot at rest"
    PLANNED_IN_MOTION = 101, "planned with the robot in motion"
