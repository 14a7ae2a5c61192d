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
from vjepa2_ros.robot.reachability import Reachability
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.settings.controller import MotionLimits
from vjepa2_ros.settings.declaration import parameters_of

MAX_LIFETIME = parameters_of(MotionLimits)["lifetime"].maximum
"""Longest time that any command may keep the robot moving [s]."""
MAX_GOAL_ID = 128
"""Longest goal id [characters]: it is kept, and repeated in every message about the goal."""
MAX_GAP = 1000
"""Largest leap of the sequence number, so that one command with the largest number cannot end a
goal: none could follow it."""
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
        goal_id: goal that the step serves, at most `MAX_GOAL_ID` characters.
        sequence: number of the step, from 1, rising within a goal by at most `MAX_GAP` at once.
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
        position: target [3] in metres, inside the workspace or on the straight way back into it;
            None when refused.
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


def check_force(state: RobotState, limits: MotionLimits) -> Verdict | None:
    """Return a refusal if something presses too hard on the robot, else None; so if unknown."""
    if state.wrench is None:
        return None
    force, torque = math.hypot(*state.wrench[:3]), math.hypot(*state.wrench[3:])
    if force > limits.max_force:
        return refuse(
            Reason.FORCE_TOO_LARGE,
            f"{force:.1f} N on the tool centre point; max_force is {limits.max_force:.1f} N",
        )
    if torque > limits.max_torque:
        return refuse(
            Reason.FORCE_TOO_LARGE,
            f"{torque:.1f} Nm on the tool centre point; max_torque is {limits.max_torque:.1f} Nm",
        )
    return None


class CommandGate:
    """Checks every command against the measured state, and keeps track of goals.

    One goal is served at a time. A command of a new goal closes the goal before for good; within a
    goal sequence numbers must rise.

    Where targets may lie: in the workspace, above the table. A target elsewhere is moved to the
    nearest such point. These points form a box, which is convex: the straight way from a robot in
    the box to a target in it stays in it. A robot outside, which somebody has put there, goes
    straight in. If it is farther out than `max_step`, only a command that leads nearer is accepted,
    and turned so that it leads to the box; the distance to a convex body falls all along a straight
    way to one of its points.

    Args:
        limits: limits of each command.
        reachability: of the robot's joints; None if unknown.

    Attributes:
        limits: as above; may be changed at any time.
        goal_id: goal being served; empty for none.
        sequence: number of its last accepted command.
    """

    def __init__(self, limits: MotionLimits, reachability: Reachability | None = None) -> None:
        self.limits = limits
        self._reachability = reachability
        self.goal_id = ""
        self.sequence = 0
        self._closed_goals: deque[str] = deque(maxlen=256)
        self._halted = self._accepted_at = -math.inf

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

    def check(
        self, command: MotionCommand, state: RobotState, now: float, steady: float
    ) -> Verdict:
        """Decide on a command; a refusal changes nothing.

        Args:
            command: as received.
            state: newest measured state.
            now: present time on the clock of the stamps [s].
            steady: present time on a clock that never jumps [s]: the rate of commands is measured
                on it, so that a clock that is set neither lets more of them pass nor blocks them.
        """
        refusal = (
            self._check_values(command)
            or self._check_order(command)
            or self._check_ages(command, state, now)
            or self._check_rate(steady)
            or check_force(state, self.limits)
            or self._check_step(command, state)
            or self._check_reach(command, state)
        )
        if refusal is not None:
            return refusal
        if command.goal_id != self.goal_id:
            self._close_goal()
            self.goal_id = command.goal_id
        self.sequence = command.sequence
        self._accepted_at = steady
        lifetime = command.lifetime or self.limits.lifetime
        wanted = np.asarray(command.position, dtype=np.float64)
        position = self._destination(command, state)
        # A target that only rounding puts outside is not reported as clamped.
        if np.abs(position - wanted).max() <= 1e-6:
            return Verdict(True, Reason.ACCEPTED, "accepted", position, lifetime)
        text = (
            f"target {_metres(wanted)} lies outside the workspace or below the table at "
            f"{self.limits.table_height:.3f} m; going to {_metres(position)}"
        )
        return Verdict(True, Reason.CLAMPED, text, position, lifetime)

    def _close_goal(self) -> None:
        if self.goal_id:
            self._closed_goals.append(self.goal_id)
        self.goal_id, self.sequence = "", 0

    def _clamp(self, position: np.ndarray) -> np.ndarray:
        """The nearest point in the workspace and above the table."""
        workspace = self.limits.cell.workspace
        x, y, z = workspace.lower
        return np.clip(position, (x, y, max(z, self.limits.table_height)), workspace.upper)

    def _distance(self, position: np.ndarray) -> float:
        return math.dist(position, self._clamp(position))

    def _destination(self, command: MotionCommand, state: RobotState) -> np.ndarray:
        """Where a command may lead: into the workspace, or as far that way as its step."""
        target = self._clamp(np.asarray(command.position, dtype=np.float64))
        way = target - state.position
        length = float(np.abs(way).max())
        if length <= self.limits.max_step:
            return target
        step = float(np.abs(command.position - state.position).max())
        return state.position + way * (step / length)

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
                f"the command is in frame {command.frame[:MAX_GOAL_ID]!r}, the robot's base is "
                f"{base_frame!r}",
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
        if len(command.goal_id) > MAX_GOAL_ID:
            return refuse(
                Reason.INVALID,
                f"the goal id has {len(command.goal_id)} characters; allowed are {MAX_GOAL_ID}",
            )
        return None

    def _check_order(self, command: MotionCommand) -> Verdict | None:
        if command.goal_id in self._closed_goals:
            return refuse(Reason.FOREIGN_GOAL, f"goal {command.goal_id!r} is over")
        last = self.sequence if command.goal_id == self.goal_id else 0
        if not last < command.sequence <= last + MAX_GAP:
            return refuse(
                Reason.OUT_OF_SEQUENCE,
                f"sequence number {command.sequence} does not follow {last}; a number is at most "
                f"{MAX_GAP} above the last one",
            )
        return None

    def _check_rate(self, steady: float) -> Verdict | None:
        pause, allowed = steady - self._accepted_at, 1.0 / self.limits.max_command_rate
        if pause < allowed:
            return refuse(
                Reason.TOO_FREQUENT,
                f"{pause * 1e3:.1f} ms after the last accepted command; allowed are "
                f"{allowed * 1e3:.1f} ms (max_command_rate)",
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
        step = float(np.abs(command.position - state.position).max())
        if step > limits.max_step:
            return refuse(
                Reason.STEP_TOO_LARGE,
                f"the target {_metres(command.position)} lies {step * 100:.1f} cm on one axis from "
                f"the robot at {_metres(state.position)}; allowed are {limits.max_step * 100:.1f} "
                "cm",
            )
        way = float(np.abs(self._clamp(command.position) - state.position).max())
        outside = self._distance(state.position)
        if way > limits.max_step and self._distance(command.position) >= outside:
            return refuse(
                Reason.STEP_TOO_LARGE,
                f"the robot at {_metres(state.position)} is {outside * 100:.1f} cm outside of the "
                f"workspace, more than a step of {limits.max_step * 100:.1f} cm, and the target "
                f"{_metres(command.position)} leads no nearer; bring the robot back by hand",
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

    def _check_reach(self, command: MotionCommand, state: RobotState) -> Verdict | None:
        if self._reachability is None:
            return None
        target = self._destination(command, state)
        problem = self._reachability.problem(
            target, command.quaternion_xyzw, state, self.limits.joint_margin
        )
        return refuse(Reason.UNREACHABLE, f"{_metres(target)}: {problem}") if problem else None


def _metres(position: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.3f}" for value in position) + ") m"
