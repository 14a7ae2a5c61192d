# SPDX-License-Identifier: Apache-2.0
"""Settings of visualizer_node: what viewers are shown."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vjepa2_ros.settings.cell import BaseFrame, CameraFrame, Workspace
from vjepa2_ros.settings.declaration import Settings, group, inline, setting
from vjepa2_ros.settings.transport import ImageSubscription

_UNKNOWN = (0.0,) * 7


@dataclass(frozen=True)
class VisualizerNodeSettings(Settings):
    """Markers, images and transforms for RViz, Foxglove and the page in the browser.

    Raises:
        ValueError: the quaternion of the camera's pose has another length than 1.
    """

    base: BaseFrame = inline(BaseFrame)
    camera: CameraFrame = inline(CameraFrame)
    subscription: ImageSubscription = inline(ImageSubscription)
    workspace: Workspace = group(Workspace)
    rate: float = setting(
        5.0, "rate of markers and images; nothing is made that nobody subscribes to",
        "Hz", 0.2, 30.0,
    )  # fmt: skip
    camera_pose: tuple[float, ...] = setting(
        _UNKNOWN,
        "pose of the camera's optical frame in the base frame: x, y, z [m], qx, qy, qz, qw; all 0 "
        "= not calibrated, and neither frustum nor transform are shown",
        "", -10.0, 10.0, length=7,
    )  # fmt: skip
    describe_robot: bool = setting(
        True,
        "publish robot_description and the transforms of the links of a Franka arm; false where "
        "another node does",
    )
    gripper_stroke: float = setting(
        0.08, "opening of the gripper at closedness 0, for its fingers", "m", 0.0, 0.3
    )
    trail: int = setting(300, "positions of the driven path that are shown", "", 2, 10_000)

    def __post_init__(self) -> None:
        super().__post_init__()
        length = math.hypot(*self.camera_pose[3:])
        if any(self.camera_pose) and abs(length - 1.0) > 1e-2:
            raise ValueError(
                f"the quaternion of camera_pose has length {length:.3f} instead of 1: write x, y, "
                "z, qx, qy, qz, qw"
            )
