# SPDX-License-Identifier: Apache-2.0
"""The Franka Hand: a thread of its own, with a deadline for every motion.

A gripper answers late or not at all when it is blocked; so nothing here waits for it but this
thread. Whether a motion succeeded is judged by the measured width: the answer of a grasp is known
to be wrong both ways.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

from vjepa2_ros.robot.background_call import call_in_background, call_within
from vjepa2_ros.robot.driver import RobotError
from vjepa2_ros.settings.franka import FrankaSettings

SMALLEST_MOTION = 0.001
"""Change of the opening [m] below which the fingers are left alone."""
WIDTH_TOLERANCE = 0.004
"""Distance to the opening that was told [m] within which it is reached."""
# Time between two measurements at rest, and in motion [s].
_PERIOD = 0.05
# Pause before the next attempt to connect [s].
_RECONNECT = 1.0
# Longest wait for a connection: the hand serves one client, and does not refuse a second [s].
_CONNECT_TIMEOUT = 5.0
# Longest wait for the hand to take a stop [s].
_STOP_TIMEOUT = 1.0
# Longest time of a homing [s].
_HOMING_TIMEOUT = 15.0


class FrankaGripper:
    """Moves the fingers to the opening that was told last.

    Args:
        settings: of the arm.

    Raises:
        RobotError: the hand cannot be reached, or its stroke is unknown.

    Attributes:
        stroke: opening at closedness 0 [m].
        commanded: closedness that was told last, 0 (open) to 1 (closed).
        closedness: as measured last.
        moving: whether a motion is under way.
        problem: why the fingers are not where they were told; empty if they are, or hold an object.
    """

    def __init__(self, settings: FrankaSettings) -> None:
        self._settings = settings
        self.stroke = settings.gripper_stroke
        self._hand = self._connect(settings.home_gripper)
        self._changed = threading.Condition()
        self._wanted: float | None = None
        self._closed = self._halted = False
        self.problem, self.moving = "", False
        self.closedness = self.commanded = self._measure()
        self._thread = threading.Thread(target=self._run, name="gripper", daemon=True)
        self._thread.start()

    def move(self, closedness: float) -> None:
        """Have the fingers moved; returns at once. A motion that is not new is not begun again."""
        with self._changed:
            if abs(closedness - self.commanded) * self.stroke < SMALLEST_MOTION:
                return
            self.commanded = self._wanted = closedness
            self.moving, self._halted = True, False
            self._changed.notify()

    def halt(self) -> None:
        """Have a motion that is under way stopped; returns at once. What is held stays held."""
        with self._changed:
            if not self.moving:
                return
            self._wanted, self._halted = None, True
            self.commanded = self.closedness
            self._changed.notify()

    def recover(self) -> None:
        """Forget a problem; the fingers stay where they are."""
        with self._changed:
            self.problem = ""
            self.commanded = self.closedness

    def close(self) -> None:
        """End the thread; the fingers keep what they hold."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        # Longer than a stop takes, during which the hand is needed.
        self._thread.join(2 * _STOP_TIMEOUT)
        # Its destruction ends the connection.
        self._hand = None

    # ----------------------------------------------------------------------------------------

    def _connect(self, homes: bool = False) -> Any:
        """Connect, and home the fingers if asked: never again without a person."""
        import franky

        settings = self._settings
        try:
            hand = call_within(_CONNECT_TIMEOUT, franky.Gripper, settings.host)
            if homes:
                call_within(_HOMING_TIMEOUT, hand.homing)
            widest = float(hand.max_width)
        except Exception as error:
            raise RobotError(
                f"the gripper at {settings.host} cannot be used: {error}; see in Desk that the "
                "hand is mounted and initialised, and that no other program uses it"
            ) from error
        if widest <= 0.0:
            raise RobotError(
                "the gripper's stroke is unknown: home it in Desk, or set franka.home_gripper and "
                "keep clear of the fingers"
            )
        return hand

    def _measure(self) -> float:
        width = float(self._hand.width)
        return min(max(1.0 - width / self.stroke, 0.0), 1.0)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._wanted is not None or self._halted or self._closed, _PERIOD
                )
                if self._closed:
                    return
                wanted, self._wanted = self._wanted, None
            try:
                if wanted is not None:
                    self._move(wanted)
                self.closedness = self._measure()
            except Exception as error:  # noqa: BLE001 - any error of the hand; it is tried again
                self.problem = f"the gripper does not answer: {error}"
                self._settle()
                self._reconnect()
            else:
                self._settle()

    def _settle(self) -> None:
        """Note that nothing is under way, unless something new was told."""
        with self._changed:
            if self._halted:
                self.commanded, self._halted = self.closedness, False
            self.moving = self._wanted is not None

    def _reconnect(self) -> None:
        with self._changed:
            if self._changed.wait_for(lambda: self._closed, _RECONNECT):
                return
        try:
            self._hand = self._connect()
        except RobotError as error:
            self.problem = str(error)

    def _move(self, closedness: float) -> None:
        """Move the fingers, until they have arrived, hold something, or the time is over."""
        settings, hand = self._settings, self._hand
        width, start = (1.0 - closedness) * self.stroke, float(hand.width)
        self.problem = ""
        end: str | None = ""
        if width > WIDTH_TOLERANCE:
            # A grasp does not end at a width, but at what it meets.
            end = self._carry_out(width, start, hand.move, width, settings.gripper_speed)
            if end is None:
                return
            start = float(hand.width)
        if width < start - WIDTH_TOLERANCE:
            # Closed, or stopped by something: from now on held with force.
            end = self._carry_out(
                width, start, hand.grasp, width, settings.gripper_speed, settings.gripper_force,
                self.stroke, self.stroke,
            )  # fmt: skip
            if end is None:
                return
        self._judge(width, start, end)

    def _carry_out(
        self, width: float, start: float, motion: Callable[..., Any], *arguments: float
    ) -> str | None:
        """Carry out a motion of the hand's library; why it failed, None if it was cut short."""
        settings = self._settings
        deadline = time.monotonic() + abs(width - start) / settings.gripper_speed
        deadline += settings.gripper_timeout
        if self._halted:
            return None
        call = call_in_background(motion, *arguments)
        while not wait([call], _PERIOD).done:
            self.closedness = self._measure()
            if self._wanted is not None or self._halted or self._closed:
                self._stop(call)
                return None
            if time.monotonic() > deadline:
                self._stop(call)
                return "its motion did not come to an end"
        # Its answer does not decide, but what it raised is told.
        return str(call.exception() or "")

    def _stop(self, motion: Future) -> None:
        """Stop a motion; its call may stay without an answer, and is then left behind."""
        stop = call_in_background(self._hand.stop)
        wait([stop, motion], _STOP_TIMEOUT)
        if not stop.done():
            raise RobotError("it does not take a stop")
        stop.result()

    def _judge(self, width: float, start: float, error: str) -> None:
        """Note a problem if the measured width is not what the motions should have led to.

        Args:
            width: told [m].
            start: measured before the last motion [m].
            error: why that one failed; empty if it did not.
        """
        measured = float(self._hand.width)
        stopped_by_an_object = width < start and measured > width and not error
        if abs(measured - width) <= WIDTH_TOLERANCE or stopped_by_an_object:
            return
        self.problem = (
            f"the gripper is at {measured * 100:.1f} cm and was told {width * 100:.1f} cm"
            + (f": {error}" if error else "")
            + "; see what is between the fingers"
        )
