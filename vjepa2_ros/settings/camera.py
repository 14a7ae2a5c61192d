# SPDX-License-Identifier: Apache-2.0
"""Settings of camera_node: where images come from when no simulator makes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vjepa2_ros.settings.cell import CameraFrame
from vjepa2_ros.settings.declaration import Settings, SettingsError, inline, setting
from vjepa2_ros.settings.transport import ImageTransport

SOURCES = ("device", "video", "folder")


@dataclass(frozen=True)
class CameraNodeSettings(Settings):
    """A camera device, a video file or a folder of images.

    Raises:
        ValueError: a width is given without a height, or the reverse.
    """

    frame: CameraFrame = inline(CameraFrame)
    transport: ImageTransport = inline(ImageTransport)
    source: str = setting(
        "device",
        "where images come from: a USB or V4L2 device, a video file, or a folder of images",
        choices=SOURCES,
    )  # fmt: skip
    path: str = setting(
        "/dev/video0", "device node or number, video file, or folder of images (by `source`)"
    )
    rate: float = setting(
        10.0, "images per second; surplus images of a faster device are dropped, files are played "
        "at this rate",
        "Hz", 0.1, 120.0,
    )  # fmt: skip
    width: int = setting(
        0, "width requested from the device, with `height`; 0 = its own", "pixels", 0, 8192
    )
    height: int = setting(
        0, "height requested from the device, with `width`; 0 = its own", "pixels", 0, 8192
    )
    loop: bool = setting(
        True, "start a video file or folder again at its end; if false, the node deactivates there"
    )
    intrinsics: tuple[float, float, float, float] = setting(
        (0.0, 0.0, 0.0, 0.0),
        "fx, fy, cx, cy of the pinhole camera, for camera_info; all 0 = not calibrated",
        "pixels", 0.0, 1e5, length=4,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.width) != bool(self.height):
            raise ValueError(
                f"width is {self.width} and height {self.height}: set both to a size that the "
                "camera offers (`v4l2-ctl --list-formats-ext`), or both to 0"
            )


def source_of(path: str) -> dict[str, str]:
    """Parameters `source` and `path` for a device, a video file or a folder.

    Raises:
        SettingsError: there is no such file or folder, and it does not look like a device.
    """
    if Path(path).is_dir():
        return {"source": "folder", "path": path}
    if Path(path).is_file():
        return {"source": "video", "path": path}
    # A device that is plugged in later is waited for by nobody, but its node says so.
    if not path.isdigit() and not path.startswith("/dev/"):
        raise SettingsError(
            f"there is no video file or folder {path}, and it is not a device in /dev"
        )
    return {"source": "device", "path": path}
