# SPDX-License-Identifier: Apache-2.0
"""Reads states of the arm and of the gripper over franky, which never moves them.

Connecting sets franky's default thresholds of collisions, as every program with franky does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

_REPORT_PERIOD = 0.2


@dataclass(frozen=True)
class Refusal:
    """Why there are no states.

    Attributes:
        kind: name of franky's exception.
        text: its text.
    """

    kind: str
    text: str

    @property
    def is_version(self) -> bool:
        """Whether the robot speaks another version."""
        return self.kind == "IncompatibleVersionException"


@dataclass(frozen=True)
class RobotReading:
    """States of a robot over some time.

    Attributes:
        robot_time: of each new state [N] in milliseconds, int.
        arrival: when each was there [N] in seconds, monotonic clock.
        system_seconds: that passed on the system's clock from first to last.
        mode: of the robot, at the end.
        modes: all that were seen.
        errors: names of the present ones, at the end.
        last_motion_errors: names of those that ended the last motion.
        joints: angles [7] rad, at the end.
        end_effector_mass, load_mass, total_mass: as configured [kg].
        flange_to_end_effector: as configured, [4, 4].
        success_rate: of control commands, 0 to 1; of a motion only.
        realtime_refusal: why franky cannot enforce real-time here; empty if it can or was not
            asked to.
    """

    robot_time: np.ndarray
    arrival: np.ndarray
    system_seconds: float
    mode: str
    modes: tuple[str, ...]
    errors: tuple[str, ...]
    last_motion_errors: tuple[str, ...]
    joints: np.ndarray
    end_effector_mass: float
    load_mass: float
    total_mass: float
    flange_to_end_effector: np.ndarray
    success_rate: float
    realtime_refusal: str


@dataclass(frozen=True)
class GripperReading:
    """State of a gripper.

    Attributes:
        width, max_width: [m]; `max_width` is 0 before homing.
        is_grasped: it holds something.
        server_version: of its server.
    """

    width: float
    max_width: float
    is_grasped: bool
    server_version: int


def read_robot(
    progress: Callable[[float], None], host: str, enforce: bool, seconds: float
) -> RobotReading | Refusal:
    """Read every new state for some time.

    Args:
        progress: called with the part done.
        host: of the robot.
        enforce: ask franky for real-time, as for motions.
        seconds: how long to read.
    """
    import franky

    refusal = ""
    try:
        config = franky.RealtimeConfig.Enforce if enforce else franky.RealtimeConfig.Ignore
        try:
            robot = franky.Robot(host, realtime_config=config)
        except franky.RealtimeException as error:
            refusal = str(error)
            robot = franky.Robot(host, realtime_config=franky.RealtimeConfig.Ignore)
        state = robot.state
        begin = reported = time.monotonic()
        system_begin = time.time()
        robot_time, arrival, modes = [state.time.to_msec()], [begin], {state.robot_mode.name}
        while (now := time.monotonic()) < begin + seconds:
            state = robot.state
            robot_time.append(state.time.to_msec())
            arrival.append(time.monotonic())
            modes.add(state.robot_mode.name)
            if now > reported + _REPORT_PERIOD:
                reported = now
                progress((now - begin) / seconds)
        system_seconds = time.time() - system_begin
    except Exception as error:  # franky's have no common base, and what libfranka throws may differ
        return Refusal(type(error).__name__, str(error))
    return RobotReading(
        np.array(robot_time),
        np.array(arrival),
        system_seconds,
        state.robot_mode.name,
        tuple(sorted(modes)),
        _names(state.current_errors),
        _names(state.last_motion_errors),
        np.array(state.q, float),
        float(state.m_ee),
        float(state.m_load),
        float(state.m_total),
        np.array(state.F_T_EE.matrix, float),
        float(state.control_command_success_rate),
        refusal,
    )


def read_gripper(_: Callable[[float], None], host: str) -> GripperReading | Refusal:
    """Read the gripper's state."""
    import franky

    try:
        gripper = franky.Gripper(host)
        state = gripper.state
        return GripperReading(
            float(state.width),
            float(state.max_width),
            bool(state.is_grasped),
            int(gripper.server_version),
        )
    except Exception as error:
        return Refusal(type(error).__name__, str(error))


def _names(errors: Any) -> tuple[str, ...]:
    """Names of the errors that are set."""
    return tuple(
        name
        for name in dir(errors)
        if not name.startswith("_") and getattr(errors, name) is True
    )
