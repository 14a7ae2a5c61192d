# SPDX-License-Identifier: Apache-2.0
"""Settings of the driver of a Franka arm. The defaults are slow and yield early on purpose."""

from __future__ import annotations

from dataclasses import dataclass

from vjepa2_ros.settings.declaration import Settings, setting

MODELS = ("fr3", "panda")
"""Arms that the driver knows."""


@dataclass(frozen=True)
class FrankaSettings(Settings):
    """A Franka arm with its hand, over the Franka control interface (FCI)."""

    host: str = setting("172.16.0.2", "address of the arm's control unit")
    model: str = setting("fr3", "arm: fr3 (Franka Research 3) or panda", choices=MODELS)
    realtime: bool = setting(
        True, "refuse to start without a real-time kernel; false for a simulated arm"
    )
    max_speed: float = setting(
        0.25,
        "highest speed of the tool centre point; rotations and the elbow are slowed down alike",
        "m/s", 0.01, 1.0,
    )  # fmt: skip
    acceleration_factor: float = setting(
        0.1, "acceleration of a motion as a share of the arm's limit", "", 0.01, 1.0
    )
    jerk_factor: float = setting(
        0.1, "jerk of a motion as a share of the arm's limit", "", 0.001, 1.0
    )
    stop_factor: float = setting(
        0.3, "acceleration and jerk of a halt as a share of the arm's limits", "", 0.05, 1.0
    )
    translation_stiffness: float = setting(
        1000.0,
        "how stiff the hand is held: at 1000 it presses with 10 N when it is kept 1 cm off",
        "N/m", 300.0, 3000.0,
    )  # fmt: skip
    rotation_stiffness: float = setting(
        50.0, "how stiff it is held against turning", "Nm/rad", 10.0, 300.0
    )
    torque_threshold: float = setting(
        20.0, "external torque on a joint above which the arm stops by reflex", "Nm", 1.0, 100.0
    )
    force_threshold: float = setting(
        20.0, "external force on the hand above which the arm stops by reflex", "N", 1.0, 100.0
    )
    max_recoveries: int = setting(
        3, "reflexes within `recovery_window` that are cleared without a person; the next one "
        "latches a fault",
        "", 0, 100,
    )  # fmt: skip
    recovery_window: float = setting(60.0, "time in which reflexes are counted", "s", 1.0, 3600.0)
    recovery_timeout: float = setting(
        10.0, "longest time that clearing one may take", "s", 0.5, 60.0
    )
    load_mass: float = setting(
        0.0, "mass beyond the hand that is set in Desk, such as longer fingertips", "kg", 0.0, 3.0
    )
    load_center: tuple[float, float, float] = setting(
        (0.0, 0.0, 0.0), "centre of that mass, from the flange", "m", -0.5, 0.5, length=3
    )
    tool_offset: tuple[float, float, float] = setting(
        (0.0, 0.0, 0.0),
        "from the end effector that is set in Desk (for the hand: between its own fingertips) to "
        "the tool centre point; (0, 0, 0.05) for fingertips that are 5 cm longer",
        "m", -0.5, 0.5, length=3,
    )  # fmt: skip
    gripper_stroke: float = setting(
        0.08, "opening of the gripper at closedness 0", "m", 0.005, 0.2
    )
    gripper_speed: float = setting(0.1, "speed of the fingers", "m/s", 0.01, 0.2)
    gripper_force: float = setting(20.0, "force that closes the fingers", "N", 1.0, 70.0)
    gripper_timeout: float = setting(
        2.0, "longest time of a gripper motion beyond what its way takes; then it counts as "
        "blocked, and is stopped",
        "s", 0.5, 30.0,
    )  # fmt: skip
    home_gripper: bool = setting(
        False, "open and close the fingers once when connecting, to find their stroke"
    )
