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
    """Limits of each command and of the measured state.

    Attributes:
        cell: workspace, base frame and the oldest observation that a command may come from.
        table_height: lowest z of the tool centre point of any target [m], base frame.
        max_step: largest distance from the measured position on each axis [m].
        max_rotation: largest angle from the measured orientation [rad].
        max_command_rate: how often a command is accepted [Hz].
        joint_margin: distance that every joint keeps from its limits [rad].
        max_state_age: oldest measured state to compare with [s].
        max_state_speed: speed between two measured states that a real motion explains [m/s].
        max_speed: of the tool centre point, as measured [m/s].
        max_force, max_torque: external force [N] and torque [Nm], as measured.
        lifetime: how long a command without a lifetime of its own may keep the robot moving [s].

    Raises:
        ValueError: the table is not below the upper corner of the workspace.
    """

    cell: MotionCell = inline(MotionCell)
    table_height: float = setting(
        0.0,
        "lowest z of the tool centre point of any target, base frame; a lower target is moved up "
        "to it, whatever the workspace allows",
        "m", -2.0, 2.0, live="raise",
    )  # fmt: skip
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
    max_command_rate: float = setting(
        20.0,
        "how often a command is accepted; one that comes sooner after the last accepted one is "
        "refused",
        "Hz", 0.1, 1000.0, live="lower",
    )  # fmt: skip
    joint_margin: float = setting(
        0.05,
        "distance that every joint keeps from its limits, for arms whose kinematics are known; a "
        "target that takes a joint nearer is refused",
        "rad", 0.0, 0.5, live="raise",
    )  # fmt: skip
    max_state_age: float = setting(
        0.5,
        "oldest measured state; an older one latches a fault while a goal is served",
        "s", 0.01, 10.0, live="lower",
    )  # fmt: skip
    max_state_speed: float = setting(
        2.0,
        "speed between two measured states that a motion of the robot explains; positions further "
        "apart (by more than 1 cm) are a jump of the measurement and latch a fault",
        "m/s", 0.1, 100.0, live="lower",
    )  # fmt: skip
    max_speed: float = setting(
        0.5,
        "largest measured speed of the tool centre point, over 0.1 s; a higher one latches a "
        "fault, unless a person has stopped the robot and guides it",
        "m/s", 0.01, 10.0, live="lower",
    )  # fmt: skip
    max_force: float = setting(
        40.0,
        "largest external force on the tool centre point, where the robot estimates it; above it "
        "commands are refused, and in motion a fault is latched",
        "N", 1.0, 1000.0, live="lower",
    )  # fmt: skip
    max_torque: float = setting(
        15.0,
        "largest external torque on the tool centre point, where the robot estimates it; above it "
        "commands are refused, and in motion a fault is latched",
        "Nm", 0.1, 1000.0, live="lower",
    )  # fmt: skip
    lifetime: float = setting(
        4.0,
        "how long a command without a lifetime of its own may keep the robot moving; then it is "
        "halted where it is, and the next command is taken",
        "s", 0.1, 60.0, live="lower",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        top = self.cell.workspace.upper[2]
        if self.table_height >= top:
            raise ValueError(
                f"table_height {self.table_height} m must be below workspace.upper, whose z is "
                f"{top} m"
            )


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
