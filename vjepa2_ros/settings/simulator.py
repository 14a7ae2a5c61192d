# SPDX-License-Identifier: Apache-2.0
"""Settings of simulator_node: the simulated cell."""

from __future__ import annotations

from dataclasses import dataclass

from vjepa2_ros.settings.cell import BaseFrame, CameraFrame, Workspace
from vjepa2_ros.settings.declaration import Settings, group, inline, setting
from vjepa2_ros.settings.transport import ImageTransport

CAMERA_POSE = (1.115, -0.615, 1.0854, 0.85355339, 0.35355339, -0.14644661, -0.35355339)
"""Of the simulated camera's optical frame in the base frame, as the visualizer's `camera_pose`."""


@dataclass(frozen=True)
class SimulatorNodeSettings(Settings):
    """A Panda with its hand, a cup and a box on a table, and one camera."""

    base: BaseFrame = inline(BaseFrame)
    camera: CameraFrame = inline(CameraFrame)
    workspace: Workspace = group(Workspace)
    transport: ImageTransport = inline(ImageTransport)
    seed: int = setting(
        0,
        "start pose of the arm and places of cup and box; the same seed gives the same scene, and "
        "the same episode of the task",
        "", 0, 2**31 - 1,
    )  # fmt: skip
    task: str = setting(
        "reach",
        "arm and objects start as in an episode of this task: a file under "
        "vjepa2_ros/tasks/library, or module:ATTRIBUTE",
    )
    object: str = setting(
        "", "object that the task is about, cup or box; empty for a task without one"
    )
    image_size: int = setting(
        256, "side of the square image; the shipped model was trained on 256", "pixels", 64, 1024
    )
    image_rate: float = setting(
        10.0, "rate of images; rendered in software, each costs about 10 ms",
        "Hz", 0.1, 50.0,
    )  # fmt: skip
    max_speed: float = setting(
        0.25, "speed of the arm that targets on `simulator/target` move", "m/s", 0.01, 1.0
    )
    driver_timeout: float = setting(
        0.2,
        "the arm is held when it moves and nothing has come on `simulator/target` for so long: its "
        "driver has died or hangs",
        "s", 0.05, 3600.0,
    )  # fmt: skip
    franka_server: str = setting(
        "",
        "address of this machine, such as 127.0.0.1, at which the arm is served over the Franka "
        "control interface (ports 1337 and 1338), instead of `simulator/target`; empty: it "
        "is not",
    )
    franka_silence: float = setting(
        0.02,
        "time without a packet after which the arm served there ends a motion, 0.02 on a real one; "
        "more for a machine that is too slow for it, 0: never",
        "s", 0.0, 10.0,
    )  # fmt: skip
