# SPDX-License-Identifier: Apache-2.0
"""Images from a camera device, a video file or a folder, all behind one small interface.

`grab` waits for the next image and returns the moment it was captured, so that the caller can
stamp it, and `retrieve` decodes it. (A USB camera's JPEG takes milliseconds to decode, which are
no part of the capture time.)
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from vjepa2_ros.settings.camera import SOURCES

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")



class CameraError(RuntimeError):
    """The source is not there, cannot be read, or broke off; the text says what to do."""


class Source(Protocol):
    """A stream of images."""

    def grab(self) -> bool:
        """Wait for the next image; False at the end of a file or folder that does not loop."""

    def retrieve(self) -> np.ndarray:
        """Decode the image grabbed last: uint8 RGB [height, width, 3]."""

    def close(self) -> None:
        """Release the source and end a wait that is under way."""


def open_source(
    kind: str, path: str, rate: float, width: int = 0, height: int = 0, loop: bool = True
) -> Source:
    """Open a source of one of the kinds in SOURCES.

    path: device node (`/dev/video0`) or number, video file, or folder of images.
    rate: images per second; a device that is faster is thinned out, files are played at it.
    width, height: size asked of a device in pixels; both 0 leave it at its own.
    loop: start a file or folder again at its end.

    Raises ValueError on a width without height or the reverse, CameraError on all else.
    """
    if bool(width) != bool(height):
        raise ValueError(
            f"width is {width} and height {height}: set both to a size that the camera offers "
            "(`v4l2-ctl --list-formats-ext`), or both to 0"
        )
    if not rate > 0:
        raise CameraError(f"the rate must be greater than zero, not {rate}")
    if kind == "device":
        return DeviceSource(path, rate, width, height)
    if kind == "video":
        return VideoSource(path, rate, loop)
    if kind == "folder":
        return FolderSource(path, rate, loop)
    raise CameraError(f"unknown source {kind!r}; choose one of {', '.join(SOURCES)}")


class DeviceSource:
    """A USB or other V4L2 camera."""

    def __init__(self, path: str, rate: float, width: int = 0, height: int = 0) -> None:
        node = Path(f"/dev/video{path}" if path.isdigit() else path)
        if not node.exists():
            present = ", ".join(str(found) for found in sorted(Path("/dev").glob("video*")))
            raise CameraError(
                f"there is no camera at {node}; present: {present or 'none'}. Plug it in, or set "
                "the parameter `path` to the right device"
            )
        self._node = node
        self._period = 1.0 / rate
        self._due = 0.0
        self._capture = cv2.VideoCapture(str(node), cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise CameraError(
                f"{node} is there but cannot be opened as a camera: it may be in use by another "
                "program, not be a capture device, or not be readable for this user (group `video`)"
            )
        # A deeper queue hands out old images as new ones whenever the reader falls behind.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if width:
            self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
            self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
            got = tuple(
                int(self._capture.get(name))
                for name in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
            )
            if got != (width, height):
                self._capture.release()
                raise CameraError(
                    f"{node} does not offer {width}x{height} pixels (nearest: {got[0]}x{got[1]}); "
                    "list its sizes with `v4l2-ctl --list-formats-ext`, or set both to 0"
                )

    def grab(self) -> bool:
        while True:
            if not self._capture.grab():
                raise CameraError(f"{self._node} gave no image: was it unplugged?")
            now = time.monotonic()
            # A quarter of a period of slack, or jitter would thin a camera of just this rate.
            if now >= self._due - 0.25 * self._period:
                self._due = max(self._due + self._period, now)
                return True

    def retrieve(self) -> np.ndarray:
        decoded, image = self._capture.retrieve()
        if not decoded:
            raise CameraError(f"{self._node} gave an image that cannot be decoded")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    def close(self) -> None:
        self._capture.release()


class _Pace:
    """Waits out the rest of each period; a wait can be cut short from another thread."""

    def __init__(self, rate: float) -> None:
        self._period = 1.0 / rate
        self._due = time.monotonic()
        self._closed = threading.Event()

    def wait(self) -> bool:
        """Wait for the next period; False once closed."""
        closed = self._closed.wait(max(0.0, self._due - time.monotonic()))
        self._due = max(self._due + self._period, time.monotonic())
        return not closed

    def close(self) -> None:
        self._closed.set()


class VideoSource:
    """A video file, played at a given rate whatever its own."""

    def __init__(self, path: str, rate: float, loop: bool = True) -> None:
        if not Path(path).is_file():
            raise CameraError(f"there is no video file at {path!r}; set the parameter `path`")
        self._path = path
        self._loop = loop
        self._pace = _Pace(rate)
        self._capture = cv2.VideoCapture(path)
        if not self._capture.isOpened() or not self._capture.grab():
            raise CameraError(f"{path} cannot be decoded as a video; convert it to MP4 (H.264)")
        self._grabbed_first = True

    def grab(self) -> bool:
        if not self._pace.wait():
            return False
        if self._grabbed_first or self._capture.grab():
            self._grabbed_first = False
            return True
        if not self._loop:
            return False
        # Seeking to frame 0 is unreliable across codecs; opening again is not.
        self._capture.release()
        self._capture = cv2.VideoCapture(self._path)
        if not self._capture.grab():
            raise CameraError(f"{self._path} cannot be read any more")
        return True

    def retrieve(self) -> np.ndarray:
        decoded, image = self._capture.retrieve()
        if not decoded:
            raise CameraError(f"{self._path} holds an image that cannot be decoded")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    def close(self) -> None:
        self._pace.close()


class FolderSource:
    """The images of a folder in the order of their names, played at a given rate."""

    def __init__(self, path: str, rate: float, loop: bool = True) -> None:
        folder = Path(path)
        if not folder.is_dir():
            raise CameraError(f"there is no folder at {path!r}; set the parameter `path`")
        self._files = sorted(f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)
        if not self._files:
            raise CameraError(
                f"folder {path} holds no image; expected are files ending in "
                + ", ".join(IMAGE_SUFFIXES)
            )
        self._loop = loop
        self._pace = _Pace(rate)
        self._next = 0
        self._current = self._files[0]

    def grab(self) -> bool:
        if not self._pace.wait():
            return False
        if self._next == len(self._files):
            if not self._loop:
                return False
            self._next = 0
        self._current = self._files[self._next]
        self._next += 1
        return True

    def retrieve(self) -> np.ndarray:
        image = cv2.imread(str(self._current), cv2.IMREAD_COLOR)
        if image is None:
            raise CameraError(
                f"{self._current} cannot be decoded as an image; remove or replace it"
            )
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    def close(self) -> None:
        self._pace.close()
