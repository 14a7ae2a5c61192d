# SPDX-License-Identifier: Apache-2.0
"""Settings of controller_node: the limits of motion.

These are software limits against a planner's mistakes, not a certified safety function.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from vjepa2_ros.settings.cell import MotionCell
from vjepa2_ros.settings.declaration import Settings, group, inline, setting
from vjepa2_ros.settings.franka import FrankaSettings


@dataclass(frozen=True)
class MotionLimits(Settings):
    """Limits of a single command.

    Attributes:
        cell: workspace, base frame and the oldest observation that a command may come from.
        max_step: largest distance from the measured position on each axis [m].
        max_rotation: largest angle from the measured orientation [rad].
        max_state_age: oldest measured state to compare with [s].
        lifetime: how long a command without a lifetime of its own may keep the robot moving [s].
    """

    cell: MotionCell = inline(MotionCell)
    max_step: float = setting(
        0.10,
        "largest step of one command on each axis, from the measured pose; a larger one latches a "
        "fault",
        "m", 0.001, 0.5, live="lower",
    )  # fmt: skip
    max_rotation: float = setting(
        0.5, "largest turn of one command, from the measured pose; a larger one latches a fault",
        "rad", 0.001, 3.2, live="lower",
    )  # fmt: skip
    max_state_age: float = setting(
        0.5, "oldest measured state; an older one latches a fault", "s", 0.01, 10.0, live="lower"
    )
    lifetime: float = setting(
        4.0,
        "how long a command without a lifetime of its own may keep the robot moving; then it is "
        "halted where it is, and the next command is taken",
        "s", 0.1, 60.0, live="lower",
    )  # fmt: skip


@dataclass(frozen=True)
class ControllerNodeSettings(Settings):
    """Commands to robot motion.

    Raises:
        ValueError: `robot_options` is not a JSON object.
    """

    robot: str = setting(
        "simulator",
        "robot to drive: simulator, franka, or module:Class of a driver (see "
        "vjepa2_ros/robot/driver.py)",
        shared="same",
    )
    robot_options: str = setting(
        "{}",
        "parameters of a driver given as module:Class, a JSON object of the keyword arguments of "
        'its class, such as {"host": "172.16.0.2"}',
    )
    franka: FrankaSettings = group(FrankaSettings)
    limits: MotionLimits = inline(MotionLimits)
    state_rate: float = setting(
        50.0, "rate of robot_state and of the watchdogs", "Hz", 10.0, 1000.0
    )
    planner_timeout: float = setting(
        1.0,
        "longest silence of the planner during a motion; then the robot is halted and the goal "
        "ended",
        "s", 0.1, 60.0, live="lower",
    )  # fmt: skip
    manager_timeout: float = setting(
        1.5,
        "longest silence of the lifecycle manager that has been heard since the activation; then "
        "the robot is halted, the goal ended, and no command taken until it is heard again",
        "s", 0.5, 60.0, live="lower",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            options = json.loads(self.robot_options)
        except json.JSONDecodeError as error:
            text = f"robot_options {self.robot_options!r} is not JSON: {error}"
            raise ValueError(text) from error
        if not isinstance(options, dict):
            raise ValueError(f"robot_options {self.robot_options!r} must be a JSON object")
