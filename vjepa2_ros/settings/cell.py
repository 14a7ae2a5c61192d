# SPDX-License-Identifier: Apache-2.0
"""What belongs to the robot cell, set once for all nodes in a section `/**`."""

from __future__ import annotations

from dataclasses import dataclass

from vjepa2_ros.settings.declaration import Settings, group, inline, setting


@dataclass(frozen=True)
class Workspace(Settings):
    """The box for the tool centre point.

    Attributes:
        lower, upper: corners [3] in metres, base frame.

    Raises:
        ValueError: the lower corner is not below the upper one on every axis.
    """

    lower: tuple[float, float, float] = setting(
        (0.33, -0.25, 0.03),
        "lower corner of the box for the tool centre point, base frame",
        "m", -2.0, 2.0, length=3, live="raise", shared="same",
    )  # fmt: skip
    upper: tuple[float, float, float] = setting(
        (0.66, 0.25, 0.36),
        "upper corner of the box for the tool centre point, base frame",
        "m", -2.0, 2.0, length=3, live="lower", shared="same",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(low < high for low, high in zip(self.lower, self.upper, strict=True)):
            raise ValueError(
                f"workspace.lower {list(self.lower)} must be below workspace.upper "
                f"{list(self.upper)} on every axis"
            )


@dataclass(frozen=True)
class BaseFrame(Settings):
    """The frame of all poses."""

    base_frame: str = setting(
        "base", "frame of all poses: the robot's base; commands in another frame are refused",
        shared="same",
    )  # fmt: skip


@dataclass(frozen=True)
class CameraFrame(Settings):
    """The frame of the images."""

    camera_frame: str = setting(
        "camera", "optical frame of the images (header.frame_id)", shared="same"
    )


@dataclass(frozen=True)
class ObservationAge(Settings):
    """The age of an observation, which the planner and the controller both check."""

    max_observation_age: float = setting(
        5.0,
        "oldest image that a command may be planned from, encoding and planning included; raise it "
        "for a large model",
        "s", 0.01, 600.0, shared="same",
    )  # fmt: skip


@dataclass(frozen=True)
class MotionCell(Settings):
    """What planner and controller have to agree on."""

    frame: BaseFrame = inline(BaseFrame)
    workspace: Workspace = group(Workspace)
    age: ObservationAge = inline(ObservationAge)
