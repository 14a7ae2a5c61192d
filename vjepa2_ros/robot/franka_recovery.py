# SPDX-License-Identifier: Apache-2.0
"""Modes of a Franka arm, and the recovery from its reflexes, bounded in number and time."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future
from typing import Any

from vjepa2_ros.robot.background_call import call_in_background
from vjepa2_ros.robot.driver import RobotMode
from vjepa2_ros.robot.franka_motion import FARTHEST_COMMAND, deviation
from vjepa2_ros.settings.franka import FrankaSettings


class FrankaRecovery:
    """Tells the mode of an arm from each state of it, and clears its reflexes in the background.

    Args:
        settings: of the arm.

    Attributes:
        fault: what waits for a person; empty without one.
        motion_error: with which the last motion ended; empty without one.
    """

    def __init__(self, settings: FrankaSettings) -> None:
        self.fault = self.motion_error = ""
        self._settings = settings
        self._begun_at: deque[float] = deque()
        self._running: Future | None = None
        self._began = 0.0
        self._text = ""
        self._is_granted = False

    def reset(self) -> None:
        """A person has reset the fault: one more recovery, however many are allowed without one."""
        self.fault = self.motion_error = ""
        self._begun_at.clear()
        self._is_granted = True

    def lose(self, fault: str) -> None:
        """Latch a fault, and forget a recovery that belongs to a connection which is lost."""
        self.fault = fault
        self._running = None

    def mode_of(self, arm: Any, measured: Any) -> tuple[RobotMode, str]:
        """Mode that a state shows, and what it means in a sentence; may begin a recovery.

        Args:
            arm: which is recovered (`franky.Robot`).
            measured: its state (`franky.RobotState`).
        """
        import franky

        modes, mode = franky.RobotMode, measured.robot_mode
        if self.fault:
            return RobotMode.FAULTED, self.fault
        if self._running is not None:
            return self._watch(self._running)
        if mode in (modes.UserStopped, modes.Guiding):
            # It ended the motion, which is no reflex: nothing is to be recovered, nor counted.
            self.motion_error = ""
        if mode == modes.UserStopped:
            return RobotMode.USER_STOPPED, "the user stop is pressed: release it to go on"
        if mode == modes.Guiding:
            return RobotMode.USER_STOPPED, "the arm is guided by hand"
        if mode == modes.AutomaticErrorRecovery:
            return RobotMode.RECOVERING, "the arm recovers from an error"
        if mode == modes.Reflex or self.motion_error:
            return self._begin(arm, measured)
        if (distance := deviation(measured)) > FARTHEST_COMMAND:
            self.fault = (
                f"the hand is {100.0 * distance:.0f} cm from where it is commanded: see what holds "
                "it"
            )
            return RobotMode.FAULTED, self.fault
        if mode in (modes.Idle, modes.Move):
            return RobotMode.READY, ""
        return (
            RobotMode.USER_STOPPED,
            "the arm takes no commands: unlock its joints and activate FCI in Desk",
        )

    def _begin(self, arm: Any, measured: Any) -> tuple[RobotMode, str]:
        settings = self._settings
        errors = [str(error) for error in (measured.current_errors, measured.last_motion_errors)]
        text = next((error for error in errors if error.strip("[]")), "") or self.motion_error
        self.motion_error = ""
        now = time.monotonic()
        while self._begun_at and now - self._begun_at[0] > settings.recovery_window:
            self._begun_at.popleft()
        granted, self._is_granted = self._is_granted, False
        if len(self._begun_at) >= settings.max_recoveries and not granted:
            self.fault = (
                f"the arm stopped by reflex ({text}) after {len(self._begun_at)} recoveries "
                f"within {settings.recovery_window:.0f} s: see what it meets"
            )
            return RobotMode.FAULTED, self.fault
        self._begun_at.append(now)
        self._began = now
        self._text = f"the arm stopped by reflex ({text}) and is being recovered"
        self._running = call_in_background(arm.recover_from_errors)
        return RobotMode.RECOVERING, self._text

    def _watch(self, recovery: Future) -> tuple[RobotMode, str]:
        timeout = self._settings.recovery_timeout
        if not recovery.done():
            if time.monotonic() - self._began > timeout:
                self._running = None
                self.fault = f"{self._text}; that took longer than {timeout:.0f} s"
                return RobotMode.FAULTED, self.fault
            return RobotMode.RECOVERING, self._text
        self._running = None
        if (error := recovery.exception()) is not None:
            self.fault = f"{self._text}; that failed: {error}"
            return RobotMode.FAULTED, self.fault
        # Its answer is judged by a state from before it: the next reading shows whether the arm is
        # ready, or still in a reflex, which counts as another one.
        return RobotMode.RECOVERING, self._text
