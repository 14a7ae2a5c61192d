# SPDX-License-Identifier: Apache-2.0
"""Driver of a Franka arm (FR3, Panda) over `franky`, which talks to the Franka control interface.

Every motion is absolute, asynchronous and preempts the one before. The hand is held softly: it
yields to what it touches before a reflex stops the arm. When the planner falls silent, the arm ends
one bounded step; when this process dies, the control unit misses its packets and stops the arm.

A thread reads the state, notices reflexes and a lost connection, and has a person's and its own
recoveries carried out; nothing that may take long runs in the caller's thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np

from vjepa2_ros.robot.driver import (
    RobotDescription,
    RobotError,
    RobotMode,
    RobotNotReadyError,
    RobotState,
)
from vjepa2_ros.robot.franka_connection import FrankaConnector
from vjepa2_ros.robot.franka_gripper import FrankaGripper
from vjepa2_ros.robot.franka_limits import ARMS
from vjepa2_ros.robot.franka_motion import FrankaMotions
from vjepa2_ros.robot.franka_recovery import FrankaRecovery
from vjepa2_ros.robot.realtime import realtime_priority
from vjepa2_ros.settings.franka import FrankaSettings

# Time between two readings of the state [s].
_PERIOD = 0.005
# Longest wait of a caller for the connection, which a reading holds for 2 ms [s].
_BUSY = 0.1
# Pause before the next attempt to connect [s].
_RECONNECT = 1.0
# Silence of the caller of `read_state` after which the arm is halted [s].
_ABANDONED = 0.5
# Commanded speed [m/s] above which a measurement that does not change is none.
_MOVING = 0.01


class FrankaRobot:
    """A `Robot`: a Franka arm with its hand.

    Args:
        clock: present time in seconds, on the clock that commands are stamped with.
        settings: of the arm.

    Raises:
        RobotError: arm or hand cannot be reached or set up; the text says what to do.
    """

    def __init__(self, clock: Callable[[], float], settings: FrankaSettings) -> None:
        self._clock = clock
        self._settings = settings
        self._limits = ARMS[settings.model]
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._recovery = FrankaRecovery(settings)
        self._lost = ""
        self._braking = False
        self._robot_time = -1
        self._joints = np.zeros(0)
        self._asked = time.monotonic()
        self._connector = FrankaConnector(settings, self._limits)
        self._arm: Any = self._connect()
        try:
            self._gripper = FrankaGripper(settings)
        except Exception:
            self._arm = None
            raise
        try:
            self._state = self._measure()
        except Exception:
            self._gripper.close()
            self._arm = None
            raise
        self._thread = threading.Thread(target=self._run, name="franka", daemon=True)
        self._thread.start()

    def describe(self) -> RobotDescription:
        """Return the arm's limits and the stroke of its hand."""
        name = f"{self._limits.name} at {self._settings.host}"
        return self._limits.describe(name, self._settings.max_speed, self._gripper.stroke)

    def read_state(self) -> RobotState:
        """Return the newest state; RobotError while the connection is lost."""
        self._asked = time.monotonic()
        if self._lost:
            raise RobotError(self._lost)
        return self._state

    def move_to(
        self, position: np.ndarray, quaternion_xyzw: np.ndarray, gripper_closedness: float
    ) -> None:
        """Start towards an absolute pose, and the fingers towards their opening.

        Raises:
            RobotNotReadyError: its mode is not READY.
            RobotError: a value is not finite, or the arm does not take the motion.
        """
        target = np.asarray(position, float), np.asarray(quaternion_xyzw, float)
        if not np.isfinite([*target[0], *target[1], gripper_closedness]).all():
            raise RobotError("the target holds a number that is not finite")
        if self._state.mode != RobotMode.READY:
            raise RobotNotReadyError(f"the arm is not ready: {self._state.mode_text}")
        motion = self._motions.towards(*target, self._measured)
        with self._connection() as arm:
            try:
                self._start(arm, motion)
                self._braking = False
            except Exception as error:
                raise RobotError(f"the arm did not take the motion: {error}") from error
        self._gripper.move(float(gripper_closedness))

    def stop(self) -> None:
        """Brake and hold; a motion of the fingers is stopped, too, and what they hold they keep.

        Raises:
            RobotError: the arm cannot be told. Without a connection it stops by itself, but nobody
                sees it.
        """
        self._gripper.halt()
        with self._connection() as arm:
            self._brake(arm)

    def recover(self) -> None:
        """Forget the errors that wait for a person; a reflex is then cleared in the background.

        Raises:
            RobotError: there is no connection.
        """
        with self._connection():
            self._recovery.reset()
            self._gripper.recover()
            # Not the mode of the last reading, which would be taken for the next fault.
            self._state = replace(
                self._state,
                mode=RobotMode.RECOVERING,
                mode_text="the fault was reset",
                gripper_problem="",
            )

    def close(self) -> None:
        """Release arm and hand; both hold."""
        self._closed.set()
        self._thread.join(2.0)
        self._gripper.close()
        self._arm = None

    # ----------------------------------------------------------------------------------------

    def _connect(self) -> Any:
        arm = self._connector.connect()
        # Asked for now: later it would wait for a state, and so for a dead connection.
        top_speed = float(arm.translation_velocity_limit.get())
        self._motions = FrankaMotions(self._settings, self._limits, top_speed)
        return arm

    def _start(self, arm: Any, motion: Any) -> None:
        """Begin a motion. Its thread inherits the priority of this one: libfranka gives real-time
        priority to the thread that has connected alone.
        """
        with realtime_priority(self._settings.realtime):
            arm.move(motion, asynchronous=True)

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        """The connected arm for one call of its library.

        Raises:
            RobotError: there is no connection, or it does not answer.
        """
        if self._lost:
            raise RobotError(self._lost)
        if not self._lock.acquire(timeout=_BUSY):
            raise RobotError(f"the arm at {self._settings.host} does not answer")
        try:
            yield self._arm
        finally:
            self._lock.release()

    def _brake(self, arm: Any) -> None:
        # Once: each stop begins anew, so that stops in quick succession would not slow it down.
        if self._braking:
            return
        try:
            if arm.is_in_control:
                self._start(arm, self._motions.stop(arm.state))
                self._braking = True
        except Exception as error:
            raise RobotError(f"the arm did not take the stop: {error}") from error

    # The thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closed.wait(_PERIOD):
            if self._lost:
                self._reconnect()
                continue
            try:
                with self._lock:
                    self._poll()
                    state = self._measure()
                    abandoned = time.monotonic() - self._asked > _ABANDONED
                    if abandoned and self._arm.is_in_control:
                        # A motion that has ended by itself is told by the next reading.
                        with suppress(RobotError):
                            self._brake(self._arm)
                if abandoned or state.mode in (RobotMode.USER_STOPPED, RobotMode.FAULTED):
                    self._gripper.halt()
                self._state = state
            except Exception as error:  # noqa: BLE001 - whatever it is, the arm cannot be read
                self._lost = (
                    f"the connection to the arm at {self._settings.host} is lost: {error}; it is "
                    "being tried again"
                )

    def _reconnect(self) -> None:
        if self._closed.wait(_RECONNECT):
            return
        # It serves one client: the old connection would keep the new one out.
        self._arm = None
        try:
            arm = self._connect()
        except RobotError as error:
            self._lost = f"the connection to the arm is lost, and {error}"
            return
        with self._lock:
            self._arm = arm
            self._recovery.lose("the connection to the arm was lost, and is back")
            try:
                self._state = self._measure()
            except Exception:  # noqa: BLE001 - lost again
                return
        self._lost = ""

    def _poll(self) -> None:
        """Take the error of an asynchronous motion, which is raised at the next call only."""
        import franky

        try:
            self._arm.poll_motion()
        except franky.NetworkException:
            raise
        except Exception as error:  # noqa: BLE001 - of the motion; a lost arm is seen by its state
            self._recovery.motion_error = str(error).removeprefix("libfranka: ")

    def _measure(self) -> RobotState:
        measured = self._arm.state
        pose = measured.O_T_EE
        robot_time = measured.time.to_msec()
        joints = np.array(measured.q, float)
        # A state that was read before keeps its stamp; so does one that does not change in motion.
        speed = float(np.linalg.norm(measured.O_dP_EE_c.linear))
        frozen = speed > _MOVING and np.array_equal(joints, self._joints)
        if robot_time != self._robot_time and not frozen:
            stamp = self._clock()
        else:
            stamp = self._state.stamp
        self._robot_time, self._joints, self._measured = robot_time, joints, measured
        mode, text = self._recovery.mode_of(self._arm, measured)
        return RobotState(
            np.array(pose.translation, float).ravel(),
            np.array(pose.quaternion, float).ravel(),
            self._gripper.closedness,
            stamp,
            self._gripper.commanded,
            mode,
            text,
            self._gripper.problem,
            joints,
            np.array(measured.dq, float),
            np.array(measured.O_F_ext_hat_K, float),
            self._gripper.moving,
        )
