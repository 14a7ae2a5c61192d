# SPDX-License-Identifier: Apache-2.0
"""From commands to a moving robot, with every reason to stop it in one place.

Nothing here knows of ROS: times come in as arguments, `now` on the clock of the stamps and `steady`
on one that never jumps, and the robot is any `Robot`.

What ends a motion: arriving, a lifetime that ran out. What ends the goal as well: a planner that
fell silent, a halt asked for. What latches a fault until `reset_fault`: a robot that cannot be
read, refuses to move or cannot be stopped, a measured state that stands still in time, comes from
the future or makes no sense, and a command that no sound planner sends.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from vjepa2_ros.robot.driver import Robot, RobotError, RobotState
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.robot.safety import CommandGate, MotionCommand, Verdict
from vjepa2_ros.settings.controller import MotionLimits


@dataclass(frozen=True)
class ArrivalSettings:
    """When a motion counts as done.

    position_tolerance [m], rotation_tolerance [rad]: distance to the target at which it has
        arrived. still_speed [m/s], still_window [s]: the tool centre point and the fingers are at
        rest when they moved no faster over the last still_window. patience [s]: an arm at rest
        this long after the command is done even short of its target (at a joint limit, or with
        the fingers round an object).
    """

    position_tolerance: float = 0.005
    rotation_tolerance: float = 0.05
    still_speed: float = 0.01
    still_window: float = 0.15
    patience: float = 1.0


class MotionController:
    """Sends commands that pass the gate to the robot, and watches over each motion.

    planner_timeout: longest silence of the planner during a motion [s].

    To be read: `state` (measured, None before the first), `moving`, `accepted` and `refused` (goal
    id and sequence number of the last such command), `halts` (how many times all goals set before
    were ended), `message` (what was last done and why) and `fault` (latched; empty while all is
    well).
    """

    def __init__(
        self,
        robot: Robot,
        limits: MotionLimits,
        planner_timeout: float,
        arrival: ArrivalSettings = ArrivalSettings(),
    ) -> None:
        self._robot = robot
        self._gate = CommandGate(limits)
        self._arrival = arrival
        self._planner_timeout = planner_timeout
        self._target: MotionCommand | None = None
        self._target_position = np.zeros(3)
        self._started = self._deadline = self._planner_heard = 0.0
        self._recent: deque[RobotState] = deque()
        self._still_to_stop = False
        self.state: RobotState | None = None
        self.accepted: tuple[str, int] = ("", 0)
        self.refused: tuple[str, int] = ("", 0)
        self.halts = 0
        self.message, self.fault = "waiting for the first state of the robot", ""

    @property
    def moving(self) -> bool:
        """True from an accepted command until the robot has arrived or was halted."""
        return self._target is not None

    def planner_heard(self, steady: float) -> None:
        """Note a sign of life of the planner."""
        self._planner_heard = steady

    def command(self, command: MotionCommand, now: float, steady: float) -> Verdict:
        """Check a command and, if it passes, start the motion (superseding the one under way)."""
        self.planner_heard(steady)
        verdict = self._judge(command, now)
        if not verdict.accepted:
            self.refused = command.goal_id, command.sequence
            self.message = f"refused command {command.sequence}: {verdict.text}"
            if verdict.violation:
                self._latch(self.message, now)
            return verdict
        self.accepted = command.goal_id, command.sequence
        self.message = f"command {command.sequence} {verdict.text}"
        try:
            self._robot.move_to(
                verdict.position, command.quaternion_xyzw, command.gripper_closedness
            )
        except Exception as error:  # noqa: BLE001 - whatever a driver raises, it did not move
            self._latch(f"the robot refused to move: {_words(error)}", now)
            return Verdict(False, Reason.ROBOT_REFUSED, self.fault)
        self._target, self._target_position = command, verdict.position
        self._started, self._deadline = now, steady + verdict.lifetime
        return verdict

    def tick(self, now: float, steady: float) -> RobotState | None:
        """Read the robot and look after the motion.

        Returns the newest state, which is an old one (see its stamp, and `fault`) when the robot
        cannot be read any more, and None before the first.
        """
        if self._still_to_stop:
            self._stop(self.message)
        try:
            state = self._robot.read_state()
        except Exception as error:  # noqa: BLE001 - no error of a driver may skip the watchdogs
            if self.state is not None and not self.fault:
                self._latch(f"the robot cannot be read: {_words(error)}", now)
            return self.state
        if self.state is None:
            # What was measured before this controller began is no sign of life.
            if now - state.stamp > self._gate.limits.max_state_age:
                return None
            self.message = "ready"
        self.state = state
        self._watch_state(now)
        self._remember()
        if self.moving:
            self._watch_motion(now, steady)
        return state

    def halt(self, reason: str, now: float) -> bool:
        """Stop the robot and end all goals set before; False if it could not be stopped.

        Then `fault` says why, and every tick tries again.
        """
        self._end_goals(now)
        return self._stop(f"halted: {reason}")

    def reset_fault(self, now: float) -> None:
        """Let commands of a new goal through again; the robot stays where it is."""
        self._end_goals(now)
        self.fault, self.message = "", "fault reset"

    # ----------------------------------------------------------------------------------------

    def _judge(self, command: MotionCommand, now: float) -> Verdict:
        if self.fault:
            text = f"fault: {self.fault}; look after the robot, then call `reset_fault`"
            return Verdict(False, Reason.FAULT_LATCHED, text)
        if self.state is None:
            return Verdict(False, Reason.STATE_STALE, "the robot has not given a state yet")
        return self._gate.check(command, self.state, now)

    def _end_goals(self, now: float) -> None:
        self._gate.halt(now)
        self.halts += 1

    def _stop(self, message: str) -> bool:
        self._target = None
        self.message = message
        try:
            self._robot.stop()
        except Exception as error:  # noqa: BLE001 - whatever a driver raises, it may still move
            self.fault = self.fault or f"the robot could not be stopped: {_words(error)}"
            self._still_to_stop = True
            return False
        self._still_to_stop = False
        return True

    def _latch(self, fault: str, now: float) -> None:
        self._end_goals(now)
        # The first fault is the cause; what follows from it must not hide it.
        self.fault = self.fault or fault
        self._stop(fault)

    def _watch_state(self, now: float) -> None:
        age = now - self.state.stamp
        if self.fault:
            return
        allowed = self._gate.limits.max_state_age
        if problem := self.state.problem():
            self._latch(problem, now)
        elif age > allowed:
            self._latch(f"the robot has fallen silent: its last state is {age:.2f} s old", now)
        elif age < -allowed:
            self._latch(
                f"the robot's states are stamped {-age:.2f} s ahead of this clock: synchronise "
                "the clocks of the machines",
                now,
            )

    def _remember(self) -> None:
        # By the states' own stamps: one that is merely late must not pass for an arm at rest.
        if not self._recent or self.state.stamp > self._recent[-1].stamp:
            self._recent.append(self.state)
        while self.state.stamp - self._recent[0].stamp > 2 * self._arrival.still_window:
            self._recent.popleft()

    def _watch_motion(self, now: float, steady: float) -> None:
        impatient = self.state.stamp - self._started > self._arrival.patience
        if self._at_rest() and (impatient or self._at_target()):
            self._target = None
        elif steady > self._deadline:
            self._stop(f"halted: command {self._target.sequence} outlived its lifetime")
        elif steady - self._planner_heard > self._planner_timeout:
            silence = steady - self._planner_heard
            self.halt(f"the planner has been silent for {silence:.2f} s", now)

    def _at_rest(self) -> bool:
        window = self._arrival.still_window
        if self.state.stamp - self._started < window:
            return False
        spanned = self.state.stamp - self._recent[0].stamp >= window
        recent = [state for state in self._recent if self.state.stamp - state.stamp <= window]
        # Against every state of the window, or an arm that swings would be at rest at the right
        # moment. Closedness counts as its share of the fingers' 8 cm.
        moved = max(
            max(
                np.linalg.norm(self.state.position - state.position),
                0.08 * abs(self.state.gripper_closedness - state.gripper_closedness),
            )
            for state in recent
        )
        return spanned and moved < self._arrival.still_speed * window

    def _at_target(self) -> bool:
        offset = np.linalg.norm(self.state.position - self._target_position)
        turn = (
            Rotation.from_quat(self._target.quaternion_xyzw)
            * Rotation.from_quat(self.state.quaternion_xyzw).inv()
        )
        return (
            offset < self._arrival.position_tolerance
            and turn.magnitude() < self._arrival.rotation_tolerance
        )


def _words(error: Exception) -> str:
    """An error of a driver: its own words if it was meant to be read, else its type as well."""
    return str(error) if isinstance(error, RobotError) else repr(error)
