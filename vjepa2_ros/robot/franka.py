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
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from vjepa2_ros.robot.background_call import call_in_background
from vjepa2_ros.robot.driver import (
    RobotDescription,
    RobotError,
    RobotMode,
    RobotNotReadyError,
    RobotState,
)
from vjepa2_ros.robot.franka_elbow import elbow_angle
from vjepa2_ros.robot.franka_gripper import FrankaGripper
from vjepa2_ros.robot.franka_limits import ARMS, MotionLimit
from vjepa2_ros.robot.realtime import realtime_priority
from vjepa2_ros.settings.franka import FrankaSettings

# Time between two readings of the state [s].
_PERIOD = 0.005
# Longest wait of a caller for the connection, which a reading holds for 2 ms [s].
_BUSY = 0.1
# Longest wait for a connection: a host that is off answers nothing [s].
_CONNECT_TIMEOUT = 5.0
# Pause before the next attempt to connect [s].
_RECONNECT = 1.0
# Silence of the caller of `read_state` after which the arm is halted [s].
_ABANDONED = 0.5
# Of the commanded from the measured pose [m]: beyond it the commanded one is of an earlier motion.
_FARTHEST_COMMAND = 0.05
# External force [N] above which a stop holds the measured pose, so that it does not press on.
_TOUCHING = 5.0
# Way of the hand [m] below which the elbow stays where it is.
_STILL = 0.002
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
        self._recoveries: deque[float] = deque()
        self._recovery: Future | None = None
        self._recovery_began = 0.0
        self._recovery_text = ""
        self._motion_error = self._fault = self._lost = ""
        self._braking = self._is_granted = False
        self._robot_time = -1
        self._joints = np.zeros(0)
        self._attempt: Future | None = None
        self._asked = time.monotonic()
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
        import franky

        if not np.isfinite([*position, *quaternion_xyzw, gripper_closedness]).all():
            raise RobotError("the target holds a number that is not finite")
        if self._state.mode != RobotMode.READY:
            raise RobotNotReadyError(f"the arm is not ready: {self._state.mode_text}")
        target = franky.Affine(np.asarray(position, float), np.asarray(quaternion_xyzw, float))
        speed = self._speed_factor(np.asarray(position, float))
        motion = franky.CartesianMotion(
            franky.RobotPose(target, self._elbow_at(target, speed)),
            franky.ReferenceType.Absolute,
            relative_dynamics_factor=franky.RelativeDynamicsFactor(
                speed, self._settings.acceleration_factor, self._settings.jerk_factor
            ),
        )
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
            self._fault = self._motion_error = ""
            self._recoveries.clear()
            # A person has asked for it: one more, however many are allowed without one.
            self._is_granted = True
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

    # Connection -----------------------------------------------------------------------------

    def _connect(self) -> Any:
        """Connect, and set everything that is not the arm's own before the first motion."""
        try:
            import franky
        except ImportError as error:
            raise RobotError(
                f"the Franka client is not installed ({error}): pip install franky-control, in the "
                "version for the arm's system (`vjepa2-ros preflight` names it)"
            ) from error
        settings = self._settings
        realtime = franky.RealtimeConfig

        def connect() -> Any:
            arm = franky.Robot(
                settings.host,
                realtime_config=realtime.Enforce if settings.realtime else realtime.Ignore,
                controller_mode=franky.ControllerMode.CartesianImpedance,
            )
            if arm.has_errors:
                # In a reflex it takes no settings.
                arm.recover_from_errors()
            self._set_up(arm)
            return arm

        try:
            with realtime_priority(settings.realtime):
                pass
        except PermissionError as error:
            raise RobotError(
                "this user may not have real-time priority: set `rtprio` in "
                "/etc/security/limits.d, or franka.realtime to false for a simulated arm"
            ) from error
        # An attempt without an answer is not given up: it may get the arm, which serves one client.
        if self._attempt is None:
            self._attempt = call_in_background(connect)
        if not wait([self._attempt], _CONNECT_TIMEOUT).done:
            raise RobotError(
                f"the arm at {settings.host} gave no answer within {_CONNECT_TIMEOUT:.0f} s"
            )
        attempt, self._attempt = self._attempt, None
        try:
            return attempt.result()
        except Exception as error:
            raise RobotError(
                f"the arm at {settings.host} cannot be used: {error}; `vjepa2-ros preflight "
                f"--robot-ip {settings.host}` says what to do"
            ) from error

    def _set_up(self, arm: Any) -> None:
        settings, limits = self._settings, self._limits
        for kind in ("translation", "rotation", "elbow", "joint"):
            values = getattr(limits, kind)
            for derivative in ("velocity", "acceleration", "jerk"):
                limit = getattr(arm, f"{kind}_{derivative}_limit")
                limit.set(_at_most(getattr(values, derivative), limit.max))
        # Asked for now: later it would wait for a state, and so for a dead connection.
        self._top_speed = float(arm.translation_velocity_limit.get())
        stiffness = settings.translation_stiffness, settings.rotation_stiffness
        arm.set_cartesian_impedance(np.repeat(stiffness, 3))
        arm.set_collision_behavior(settings.torque_threshold, settings.force_threshold)
        arm.set_load(settings.load_mass, settings.load_center, np.zeros(9))
        offset = np.eye(4)
        offset[:3, 3] = settings.tool_offset
        arm.set_ee(offset.T.ravel())

    def _start(self, arm: Any, motion: Any) -> None:
        """Begin a motion. Its thread inherits the priority of this one: libfranka gives real-time
        priority to the thread that has connected alone.
        """
        with realtime_priority(self._settings.realtime):
            arm.move(motion, asynchronous=True)

    def _elbow_at(self, target: Any, speed_factor: float) -> Any:
        """The elbow at a pose of the end effector."""
        flange = target * self._flange_to_tool.inverse
        joints = self._state.joint_positions
        assert joints is not None
        place, turn = np.asarray(flange.translation), Rotation.from_quat(flange.quaternion)
        speed = speed_factor * float(self._limits.elbow.velocity)
        limits = self._limits.joint_positions
        still = (
            float(np.linalg.norm(np.asarray(target.translation) - self._state.position)) < _STILL
        )
        angle = self._elbow
        if not still:
            angle = elbow_angle(joints, self._elbow, place, turn, limits, speed)
        return _elbow_state(angle)

    def _speed_factor(self, position: np.ndarray) -> float:
        """Share of the arm's speed limits with which a motion keeps to `max_speed`.

        The client's limit holds on each axis of the hand: along a diagonal the speeds on the axes,
        which are in proportion to the ways, add up.
        """
        turn = Rotation.from_quat(self._state.quaternion_xyzw)
        way = np.abs(turn.inv().apply(position - self._state.position))
        length = float(np.linalg.norm(way))
        share = float(way.max()) / length if length > 0.0 else 1.0
        return min(share * self._settings.max_speed / self._top_speed, 1.0)

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
        import franky

        # Once: each stop begins anew, so that stops in quick succession would not slow it down.
        if self._braking:
            return
        factor = self._settings.stop_factor
        try:
            if arm.is_in_control:
                # With the whole range of speeds: a limit below the present speed ends the client's
                # motion with an error instead of braking it.
                motion = franky.CartesianMotion(
                    self._where_it_stops(arm.state),
                    relative_dynamics_factor=franky.RelativeDynamicsFactor(1.0, factor, factor),
                )
                self._start(arm, motion)
                self._braking = True
        except Exception as error:
            raise RobotError(f"the arm did not take the stop: {error}") from error

    def _where_it_stops(self, measured: Any) -> Any:
        """Pose, with elbow, where the arm comes to rest when it brakes from its commanded motion.

        The client's own `CartesianStopMotion` ends where it begins: it goes on past that, and then
        back.
        """
        import franky

        commanded, velocity = self._held_pose(measured), measured.O_dP_EE_c
        factor, limits = self._settings.stop_factor, self._limits
        hand = Rotation.from_quat(commanded.quaternion)

        def way_of(vector: np.ndarray, limit: MotionLimit) -> np.ndarray:
            # The limits hold on the axes of the hand.
            return hand.apply(_braking_way(hand.inv().apply(vector), limit, factor))

        way = way_of(np.asarray(velocity.linear), limits.translation)
        turn = way_of(np.asarray(velocity.angular), limits.rotation)
        elbow = _braking_way(np.array([measured.delbow_c]), limits.elbow, factor)
        rotation = Rotation.from_rotvec(turn) * hand
        return franky.RobotPose(
            franky.Affine(np.asarray(commanded.translation) + way, rotation.as_quat()),
            _elbow_state(measured.elbow_c.joint_3_pos + elbow[0]),
        )

    def _held_pose(self, measured: Any) -> Any:
        """Pose of the end effector that a stop begins at."""
        import franky

        here, commanded = measured.O_T_EE, measured.O_T_EE_c
        way = np.asarray(commanded.translation) - np.asarray(here.translation)
        in_motion = measured.robot_mode == franky.RobotMode.Move
        touches = float(np.linalg.norm(measured.O_F_ext_hat_K[:3])) > _TOUCHING
        if not in_motion or touches or float(np.linalg.norm(way)) > _FARTHEST_COMMAND:
            return here
        return commanded

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
            self._recovery = None
            self._fault = "the connection to the arm was lost, and is back"
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
            self._motion_error = str(error).removeprefix("libfranka: ")

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
        self._robot_time, self._joints = robot_time, joints
        self._flange_to_tool = measured.F_T_EE
        self._elbow = float(measured.elbow_c.joint_3_pos)
        mode, text = self._mode_of(measured)
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

    # Modes and recovery ---------------------------------------------------------------------

    def _mode_of(self, measured: Any) -> tuple[RobotMode, str]:
        import franky

        modes = franky.RobotMode
        if self._fault:
            return RobotMode.FAULTED, self._fault
        if self._recovery is not None:
            return self._watch_recovery()
        mode = measured.robot_mode
        if mode == modes.UserStopped:
            return RobotMode.USER_STOPPED, "the user stop is pressed: release it to go on"
        if mode == modes.Guiding:
            return RobotMode.USER_STOPPED, "the arm is guided by hand"
        if mode == modes.AutomaticErrorRecovery:
            return RobotMode.RECOVERING, "the arm recovers from an error"
        if mode == modes.Reflex or self._motion_error:
            return self._begin_recovery(measured)
        if mode in (modes.Idle, modes.Move):
            return RobotMode.READY, ""
        return (
            RobotMode.USER_STOPPED,
            "the arm takes no commands: unlock its joints and activate FCI in Desk",
        )

    def _begin_recovery(self, measured: Any) -> tuple[RobotMode, str]:
        settings = self._settings
        errors = [str(error) for error in (measured.current_errors, measured.last_motion_errors)]
        text = next((error for error in errors if error.strip("[]")), "") or self._motion_error
        self._motion_error = ""
        now = time.monotonic()
        while self._recoveries and now - self._recoveries[0] > settings.recovery_window:
            self._recoveries.popleft()
        granted, self._is_granted = self._is_granted, False
        if len(self._recoveries) >= settings.max_recoveries and not granted:
            self._fault = (
                f"the arm stopped by reflex ({text}) after {len(self._recoveries)} recoveries "
                f"within {settings.recovery_window:.0f} s: see what it meets"
            )
            return RobotMode.FAULTED, self._fault
        self._recoveries.append(now)
        self._recovery_began = now
        self._recovery_text = f"the arm stopped by reflex ({text}) and is being recovered"
        self._recovery = call_in_background(self._arm.recover_from_errors)
        return RobotMode.RECOVERING, self._recovery_text

    def _watch_recovery(self) -> tuple[RobotMode, str]:
        recovery, timeout = self._recovery, self._settings.recovery_timeout
        assert recovery is not None
        if not recovery.done():
            if time.monotonic() - self._recovery_began > timeout:
                self._recovery = None
                self._fault = f"{self._recovery_text}; that took longer than {timeout:.0f} s"
                return RobotMode.FAULTED, self._fault
            return RobotMode.RECOVERING, self._recovery_text
        self._recovery = None
        if (error := recovery.exception()) is not None:
            self._fault = f"{self._recovery_text}; that failed: {error}"
            return RobotMode.FAULTED, self._fault
        # Its answer is judged by a state from before it: the next reading shows whether the arm is
        # ready, or still in a reflex, which counts as another one.
        return RobotMode.RECOVERING, self._recovery_text


def _elbow_state(angle: float) -> Any:
    """The elbow at an angle of the third joint [rad]; the fourth is never positive."""
    import franky

    return franky.ElbowState(float(angle), franky.FlipDirection.Negative)


def _braking_way(velocity: np.ndarray, limit: MotionLimit, factor: float) -> np.ndarray:
    """Way [N] on which a velocity [N] is braked with a share of a limit's acceleration and jerk.

    The limit holds on each axis. Were the way longer than the fastest axis needs, the client would
    go faster first.
    """
    acceleration, jerk = factor * float(limit.acceleration), factor * float(limit.jerk)
    speed = float(np.abs(velocity).max())
    duration = speed / acceleration + acceleration / jerk
    if speed < acceleration**2 / jerk:
        # The acceleration does not reach its limit.
        duration = 2.0 * (speed / jerk) ** 0.5
    return velocity * duration / 2.0


def _at_most(value: Any, limit: Any) -> Any:
    smaller = np.minimum(value, limit)
    return float(smaller) if np.ndim(smaller) == 0 else smaller
