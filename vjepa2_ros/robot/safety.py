# SPDX-License-Identifier: Apache-2.0
"""The gate between planner and robot: which commands may move it, and where to.

These are software limits against a planner's mistakes, not a certified safety function.

A refused command is dropped and the motion in execution goes on. A violation, such as a target that
is not finite or a step beyond the limit, indicates a broken planner: the controller then halts the
robot and latches a fault.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from vjepa2_ros.robot.driver import QUATERNION_TOLERANCE, RobotState
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.settings.controller import MotionLimits
from vjepa2_ros.settings.declaration import parameters_of

MAX_LIFETIME = parameters_of(MotionLimits)["lifetime"].maximum
"""Longest time that any command may keep the robot moving [s]."""
VIOLATIONS = frozenset(
    {
        Reason.NOT_FINITE,
        Reason.INVALID,
        Reason.STEP_TOO_LARGE,
        Reason.ROTATION_TOO_LARGE,
        Reason.ROBOT_REFUSED,
    }
)
"""Refusals that indicate a broken planner or robot: they latch a fault."""


@dataclass(frozen=True)
class MotionCommand:
    """One step of a plan: an absolute target of the tool centre point.

    Attributes:
        goal_id: goal that the step serves.
        sequence: number of the step, from 1, rising within a goal.
        observation_stamp: when the image that it was planned from was captured [s].
        position: float64 [3] in metres, in `frame`.
        quaternion_xyzw: float64 [4], in `frame`.
        gripper_closedness: 0 (fully open) to 1 (fully closed).
        lifetime: how long it may keep the robot moving [s], at most `MAX_LIFETIME`; 0 takes the
            limits' default.
        frame: of the pose; must be the robot's base frame.
    """

    goal_id: str
    sequence: int
    observation_stamp: float
    position: np.ndarray
    quaternion_xyzw: np.ndarray
    gripper_closedness: float
    lifetime: float = 0.0
    frame: str = ""


@dataclass(frozen=True)
class Verdict:
    """Decision on a command.

    Attributes:
        accepted: whether the robot may be sent there.
        reason: the rule that decided.
        text: the same in a sentence, with the numbers.
        position: target [3] in metres, inside the workspace; None when refused.
        lifetime: how long the command may keep the robot moving [s].
    """

    accepted: bool
    reason: Reason
    text: str
    position: np.ndarray | None = None
    lifetime: float = 0.0

    @property
    def violation(self) -> bool:
        """True if the refusal calls for a halt and a latched fault."""
        return self.reason in VIOLATIONS


def refuse(reason: Reason, text: str) -> Verdict:
    """Return the verdict that refuses a command."""
    return Verdict(False, reason, f"{reason.text}: {text}")


def check_state(state: RobotState, now: float, max_age: float) -> Verdict | None:
    """Return a refusal if a measured state is invalid, too old or from the future, else None.

    Args:
        state: as measured.
        now: present time on the clock of the stamps [s].
        max_age: oldest state allowed; as far may it lie in the future, since the clocks of two
            machines never agree exactly [s].
    """
    if problem := state.problem():
        return refuse(Reason.STATE_INVALID, problem)
    age = now - state.stamp
    if age > max_age:
        return refuse(
            Reason.STATE_STALE,
            f"the last state of the robot is {age:.2f} s old; allowed are {max_age:.2f} s",
        )
    if age < -max_age:
        return refuse(
            Reason.STATE_FROM_THE_FUTURE,
            f"the robot's state is stamped {-age:.2f} s ahead of this clock; synchronise the "
            "clocks of the machines",
        )
    return None


class CommandGate:
    """Checks every command against the measured state, and keeps track of goals.

    One goal is served at a time. A command of a new goal closes the goal before for good; within a
    goal sequence numbers must rise.

    Args:
        limits: limits of each command.

    Attributes:
        limits: as above; may be changed at any time.
        goal_id: goal being served; empty for none.
        sequence: number of its last accepted command.
    """

    def __init__(self, limits: MotionLimits) -> None:
        self.limits = limits
        self.goal_id = ""
        self.sequence = 0
        self._closed_goals: deque[str] = deque(maxlen=256)
        self._halted = -math.inf

    def halt(self, now: float) -> None:
        """End the goal being served, and any goal whose first command is still being planned.

        Commands of a closed goal are refused from now on, and so are those planned from an image
        that was captured before `now` [s].
        """
        self._close_goal()
        self._halted = now

    def forget_observations(self, now: float) -> None:
        """Refuse commands planned from an image captured before `now` [s]; the goal goes on."""
        self._halted = now

    def check(self, command: MotionCommand, state: RobotState, now: float) -> Verdict:
        """Decide on a command at the time `now` [s]; a refusal changes nothing."""
        refusal = (
            self._check_values(command)
            or self._check_order(command)
            or self._check_ages(command, state, now)
            or self._check_step(command, state)
        )
        if refusal is not None:
            return refusal
        if command.goal_id != self.goal_id:
            self._close_goal()
            self.goal_id = command.goal_id
        self.sequence = command.sequence
        lifetime = command.lifetime or self.limits.lifetime
        wanted = np.asarray(command.position, dtype=np.float64)
        position = self._clamp(wanted)
        # A target that only rounding puts outside is not reported as clamped.
        if np.allclose(position, wanted, rtol=0.0, atol=1e-6):
            return Verdict(True, Reason.ACCEPTED, "accepted", position, lifetime)
        text = f"target {_metres(wanted)} lies outside the workspace; going to {_metres(position)}"
        return Verdict(True, Reason.CLAMPED, text, position, lifetime)

    def _close_goal(self) -> None:
        if self.goal_id:
            self._closed_goals.append(self.goal_id)
        self.goal_id, self.sequence = "", 0

    def _clamp(self, position: np.ndarray) -> np.ndarray:
        return np.clip(position, self.limits.cell.workspace.lower, self.limits.cell.workspace.upper)

    def _check_values(self, command: MotionCommand) -> Verdict | None:
        numbers = (
            *command.position,
            *command.quaternion_xyzw,
            command.gripper_closedness,
            command.observation_stamp,
            command.lifetime,
        )
        if not np.isfinite(numbers).all():
            return refuse(Reason.NOT_FINITE, "the target holds a number that is not finite")
        base_frame = self.limits.cell.frame.base_frame
        if command.frame != base_frame:
            return refuse(
                Reason.WRONG_FRAME,
                f"the command is in frame {command.frame!r}, the robot's base is {base_frame!r}",
            )
        norm = float(np.linalg.norm(command.quaternion_xyzw))
        if abs(norm - 1.0) > QUATERNION_TOLERANCE:
            return refuse(Reason.INVALID, f"the quaternion has length {norm:.4f} instead of 1")
        if not 0.0 <= command.gripper_closedness <= 1.0:
            return refuse(
                Reason.INVALID,
                f"gripper closedness {command.gripper_closedness:.3f} is outside 0 to 1",
            )
        if not 0.0 <= command.lifetime <= MAX_LIFETIME:
            return refuse(
                Reason.INVALID,
                f"lifetime {command.lifetime:.3f} s is outside 0 to {MAX_LIFETIME:.0f} s",
            )
        if not command.goal_id or command.sequence < 1:
            return refuse(
                Reason.INVALID, "a command needs a goal id and a sequence number from 1 upwards"
            )
        return None

    def _check_order(self, command: MotionCommand) -> Verdict | None:
        if command.goal_id in self._closed_goals:
            return refuse(Reason.FOREIGN_GOAL, f"goal {command.goal_id} is over")
        if command.goal_id == self.goal_id and command.sequence <= self.sequence:
            return refuse(
                Reason.OUT_OF_SEQUENCE,
                f"sequence number {command.sequence} does not follow {self.sequence}",
            )
        return None

    def _check_ages(self, command: MotionCommand, state: RobotState, now: float) -> Verdict | None:
        limits = self.limits
        if refusal := check_state(state, now, limits.max_state_age):
            return refusal
        age = now - command.observation_stamp
        allowed = limits.cell.age.max_observation_age
        if age > allowed:
            return refuse(
                Reason.STALE,
                f"the observation is {age:.2f} s old; allowed are {allowed:.2f} s",
            )
        # As for a state: the clocks of two machines never agree exactly.
        if age < -limits.max_state_age:
            return refuse(
                Reason.FROM_THE_FUTURE,
                f"the observation is stamped {-age:.2f} s ahead of this clock; synchronise the "
                "clocks of the machines",
            )
        if command.observation_stamp <= self._halted:
            return refuse(
                Reason.BEFORE_HALT,
                "its image was taken before the robot was halted or had recovered",
            )
        return None

    def _check_step(self, command: MotionCommand, state: RobotState) -> Verdict | None:
        limits = self.limits
        target = self._clamp(np.asarray(command.position, dtype=np.float64))
        for name, position in (("target", command.position), ("clamped target", target)):
            step = float(np.abs(np.asarray(position) - state.position).max())
            if step > limits.max_step:
                return refuse(
                    Reason.STEP_TOO_LARGE,
                    f"the {name} {_metres(position)} lies {step * 100:.1f} cm on one axis from "
                    f"the robot at {_metres(state.position)}; allowed are "
                    f"{limits.max_step * 100:.1f} cm",
                )
        turn = (
            Rotation.from_quat(command.quaternion_xyzw)
            * Rotation.from_quat(state.quaternion_xyzw).inv()
        )
        if turn.magnitude() > limits.max_rotation:
            return refuse(
                Reason.ROTATION_TOO_LARGE,
                f"the target is turned by {turn.magnitude():.2f} rad from the robot; allowed are "
                f"{limits.max_rotation:.2f} rad",
            )
        return None


def _metres(position: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.3f}" for value in position) + ") m"
