# SPDX-License-Identifier: Apache-2.0
"""Executes commands on a robot, and holds every reason to stop it in one place.

Times are arguments: `now` on the clock of the stamps, `steady` on a clock that never jumps.

- A motion ends on arrival or when its lifetime expires.
- The goal ends as well when the planner is silent or a halt is requested.
- A fault halts the robot and stays until `reset_fault`: the robot cannot be read, does not move or
  does not stop, a measured state is invalid, too old while a goal is served, from the future or far
  from the last one, the robot is too fast, or pressed too hard in motion, or a command indicates a
  broken planner.
"""

from __future__ import annotations

from vjepa2_ros.robot.arrival import ArrivalDetector
from vjepa2_ros.robot.driver import (
    Robot,
    RobotError,
    RobotMode,
    RobotNotReadyError,
    RobotState,
)
from vjepa2_ros.robot.reachability import Reachability
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.robot.safety import (
    CommandGate,
    MotionCommand,
    Verdict,
    check_force,
    check_state,
    refuse,
)
from vjepa2_ros.robot.state_watch import StateWatch
from vjepa2_ros.settings.controller import MotionLimits


class MotionController:
    """Sends the commands that pass the gate to the robot, and watches each motion.

    Args:
        robot: driver of the robot.
        limits: limits of each command and of the measured state.
        planner_timeout: longest silence of the planner during a motion [s].

    Attributes:
        planner_timeout: as above; may be changed at any time.
        state: last measured state; None before the first.
        accepted: goal id and sequence number of the last accepted command; ("", 0) before.
        refused: the same of the last refused command.
        refused_reason: why that one was refused.
        halts: how many times all goals were ended, by a halt, a fault or its reset.
        last_halt: when that was last [s], on the clock of the stamps; 0 = never.
        reason: code of what was done last.
        message: the same in a sentence.
        fault_reason: code of the latched fault; NONE without one.
        fault: the same in a sentence; empty without one.
    """

    def __init__(self, robot: Robot, limits: MotionLimits, planner_timeout: float) -> None:
        self.planner_timeout = planner_timeout
        self.state: RobotState | None = None
        self.accepted: tuple[str, int] = ("", 0)
        self.refused: tuple[str, int] = ("", 0)
        self.refused_reason = Reason.NONE
        self.halts = 0
        self.last_halt = 0.0
        self.reason, self.message = Reason.NO_ROBOT_STATE, "waiting for the first robot state"
        self.fault_reason, self.fault = Reason.NONE, ""
        self._robot = robot
        self._description = robot.describe()
        self._gate = CommandGate(limits, Reachability.of(self._description))
        self._watch = StateWatch()
        self._arrival = ArrivalDetector(self._description.gripper_stroke)
        self._moving = False
        # None after a reset: whatever is read next is news.
        self._mode: RobotMode | None = RobotMode.READY
        self._gripper_problem = ""
        self._deadline = self._planner_heard = 0.0
        # Reason and text of a stop that the robot has not carried out yet.
        self._pending_stop: tuple[Reason, str] | None = None

    @property
    def moving(self) -> bool:
        """True from an accepted command until the robot has arrived or was halted."""
        return self._moving

    @property
    def limits(self) -> MotionLimits:
        """Limits of the next command and of the measured state.

        New ones apply at once; a motion in execution is not changed by them.
        """
        return self._gate.limits

    @limits.setter
    def limits(self, limits: MotionLimits) -> None:
        self._gate.limits = limits

    def planner_heard(self, steady: float) -> None:
        """Note a heartbeat of the planner."""
        self._planner_heard = steady

    def command(self, command: MotionCommand, now: float, steady: float) -> Verdict:
        """Check a command and, if it passes, start the motion; it preempts the one in execution."""
        self.planner_heard(steady)
        verdict = self._start(command, self._judge(command, now, steady), now, steady)
        self.reason = verdict.reason
        if verdict.accepted:
            self.accepted = command.goal_id, command.sequence
            self.message = f"command {command.sequence} {verdict.text}"
            return verdict
        self.refused, self.refused_reason = (command.goal_id, command.sequence), verdict.reason
        self.message = f"refused command {command.sequence}: {verdict.text}"
        if verdict.violation:
            self._latch(verdict.reason, self.message, now)
        return verdict

    def tick(self, now: float, steady: float) -> RobotState | None:
        """Read the robot and run the watchdogs.

        Returns:
            The newest state; an old one (see its stamp, and `fault`) when the robot can no longer
            be read, and None before the first.
        """
        if self._pending_stop is not None:
            self._stop(*self._pending_stop)
        try:
            state = self._robot.read_state()
        except Exception as error:  # noqa: BLE001 - no error of a driver may skip the watchdogs
            if self.state is not None and not self.fault:
                text = f"the robot cannot be read: {_words(error)}"
                self._latch(Reason.ROBOT_UNREADABLE, text, now)
            return self.state
        if self.state is None:
            # A state from before this controller existed does not show that the robot is alive.
            if now - state.stamp > self.limits.max_state_age:
                return None
            self.reason, self.message = Reason.READY, "ready"
        self.state = state
        self._watch_state(state, now)
        self._watch_mode(state, now)
        if self._moving:
            self._watch_motion(state, now, steady)
        return state

    def halt(self, reason: Reason, text: str, now: float) -> bool:
        """Stop the robot and end all goals that were set before.

        Args:
            reason: HALT_REQUESTED or another code of why.
            text: the same in a sentence.
            now: time of the halt [s].

        Returns:
            False if the robot could not be stopped. Then `message` says why, a fault is latched,
            and every tick tries again.
        """
        self._end_goals(now)
        return self._stop(reason, f"halted: {text}")

    def reset_fault(self, now: float) -> bool:
        """Clear the robot's own errors and the fault; the robot stays where it is.

        Commands of the goals so far stay refused.

        Returns:
            False if the robot could not be stopped or recovered. Then `message` says why, and the
            fault stays.
        """
        if self._pending_stop is not None and not self._stop(*self._pending_stop):
            return False
        faulted = self.state is not None and self.state.mode == RobotMode.FAULTED
        if self.fault or faulted:
            try:
                self._robot.recover()
            except Exception as error:  # noqa: BLE001 - any error of a driver; the fault stays
                self.fault = self.message = f"the robot could not be recovered: {_words(error)}"
                self.fault_reason = self.reason = Reason.RECOVERY_FAILED
                return False
        self._end_goals(now)
        self.fault_reason, self.fault = Reason.NONE, ""
        self.reason, self.message = Reason.FAULT_RESET, "fault reset"
        # A robot that is in an error again, or still, is a new fault at the next reading.
        self._mode = None
        return True

    # ----------------------------------------------------------------------------------------

    def _judge(self, command: MotionCommand, now: float, steady: float) -> Verdict:
        if self.fault:
            return refuse(
                Reason.FAULT_LATCHED, f"{self.fault}; check the robot, then call `reset_fault`"
            )
        if self.state is None:
            return refuse(Reason.NO_ROBOT_STATE, "see that the robot's driver is running")
        if self.state.mode != RobotMode.READY:
            return refuse(Reason.ROBOT_NOT_READY, self.state.mode_text)
        return self._gate.check(command, self.state, now, steady)

    def _start(
        self, command: MotionCommand, verdict: Verdict, now: float, steady: float
    ) -> Verdict:
        if verdict.position is None:
            return verdict
        try:
            self._robot.move_to(
                verdict.position, command.quaternion_xyzw, command.gripper_closedness
            )
        except RobotNotReadyError as error:
            return refuse(Reason.ROBOT_NOT_READY, str(error))
        except Exception as error:  # noqa: BLE001 - any error of a driver: it did not move
            return refuse(Reason.ROBOT_REFUSED, _words(error))
        self._moving = True
        self._deadline = steady + verdict.lifetime
        self._arrival.begin(verdict.position, command.quaternion_xyzw, now)
        return verdict

    def _end_goals(self, now: float) -> None:
        self._gate.halt(now)
        self.halts += 1
        self.last_halt = now

    def _stop(self, reason: Reason, text: str) -> bool:
        self._moving = False
        try:
            self._robot.stop()
        except Exception as error:  # noqa: BLE001 - any error of a driver: it may still move
            self._pending_stop = reason, text
            self.reason = Reason.ROBOT_NOT_STOPPED
            self.message = (
                f"the robot could not be stopped: {_words(error)}; use the robot's own stop"
            )
            self._set_fault(self.reason, self.message)
            return False
        self._pending_stop = None
        self.reason, self.message = reason, text
        return True

    def _latch(self, reason: Reason, text: str, now: float) -> None:
        self._end_goals(now)
        self._set_fault(reason, text)
        self._stop(reason, text)

    def _set_fault(self, reason: Reason, text: str) -> None:
        # The first fault is the cause; the ones that follow from it must not replace it.
        if not self.fault:
            # A robot may report an error without words, and an empty text would be no fault.
            self.fault_reason, self.fault = reason, text or reason.text

    def _watch_state(self, state: RobotState, now: float) -> None:
        limits = self.limits
        problem = check_state(state, now, limits.max_state_age)
        if problem is None:
            # During a fault as well: the states after its reset are compared with these.
            problem = self._watch.check(state, limits)
            if problem is not None:
                # The stamps may have gone back, and it ignores all that is older than its newest.
                self._arrival = ArrivalDetector(self._description.gripper_stroke)
            self._arrival.add(state)
        if self.fault:
            return
        if problem is None:
            if self.reason is Reason.STATE_STALE:
                self.reason, self.message = Reason.READY, "ready"
        elif problem.reason is Reason.STATE_STALE and not self._moving and not self._gate.goal_id:
            # Nothing moves and nothing is going to: a machine that is busy with its start leaves
            # the driver without its turn for a while. Commands are refused until it is back.
            self.reason, self.message = problem.reason, problem.text
        else:
            self._latch(problem.reason, problem.text, now)

    def _watch_mode(self, state: RobotState, now: float) -> None:
        """Act when the robot's own mode or its gripper's condition changes."""
        mode, problem = state.mode, state.gripper_problem
        if mode != self._mode and not self.fault:
            if mode == RobotMode.READY:
                # What was planned from before the error may not fit where it has left the robot.
                self._gate.forget_observations(now)
                if self._mode is not None:
                    self.reason, self.message = Reason.READY, "the robot is ready again"
            elif mode == RobotMode.RECOVERING:
                self._moving = False
                self.reason, self.message = Reason.ROBOT_RECOVERING, state.mode_text
            elif mode == RobotMode.USER_STOPPED:
                self.halt(Reason.USER_STOPPED, state.mode_text, now)
            else:
                self._latch(Reason.ROBOT_ERROR, state.mode_text, now)
        if problem and not self._gripper_problem:
            self.halt(Reason.GRIPPER_BLOCKED, problem, now)
        self._mode, self._gripper_problem = mode, problem

    def _watch_motion(self, state: RobotState, now: float, steady: float) -> None:
        if pressed := check_force(state, self.limits):
            self._latch(pressed.reason, pressed.text, now)
        elif self._arrival.arrived():
            self._moving = False
        elif steady > self._deadline:
            text = f"halted: command {self.accepted[1]} outlived its lifetime"
            self._stop(Reason.LIFETIME_EXPIRED, text)
        elif steady - self._planner_heard > self.planner_timeout:
            silence = steady - self._planner_heard
            text = f"the planner has been silent for {silence:.2f} s"
            self.halt(Reason.PLANNER_SILENT, text, now)


def _words(error: Exception) -> str:
    """Text of a driver's error, with its type if it was not meant to be read."""
    return str(error) if isinstance(error, RobotError) else repr(error)
