# SPDX-License-Identifier: Apache-2.0
"""Images from a camera device, a video file or a folder, all behind one small interface.

`grab` waits for the next image and returns when it was captured, so that the caller can stamp it;
`retrieve` decodes it. (Decoding a USB camera's JPEG takes milliseconds, which are not part of the
capture time.)
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from PIL import Image

from vjepa2_ros.camera.decoding import MAX_PIXELS, ImageError, decode_image
from vjepa2_ros.settings.camera import CameraNodeSettings

_BY_PILLOW = (".jpeg", ".jpg", ".png", ".webp")
_BY_OPENCV = (".bmp", ".tif", ".tiff")
IMAGE_SUFFIXES = tuple(sorted(_BY_PILLOW + _BY_OPENCV))
UNDECODABLE = "{} cannot be decoded as a video: if it is one, convert it to MP4 (H.264)"
"""Says of a file, by its path, that it cannot be read."""


class CameraError(RuntimeError):
    """The source does not exist, cannot be read, or ended early; the text says what to do."""


class Source(Protocol):
    """A stream of images."""

    def grab(self) -> bool:
        """Wait for the next image.

        Returns:
            False at the end of a file or folder that does not loop.

        Raises:
            CameraError: the source cannot be read any more.
        """

    def retrieve(self) -> np.ndarray:
        """Decode the image grabbed last.

        Returns:
            uint8 RGB [height, width, 3].

        Raises:
            CameraError: it cannot be decoded, or is too large.
        """

    def close(self) -> None:
        """Release the source and end a wait in progress."""


def open_source(settings: CameraNodeSettings) -> Source:
    """Open the source that the settings name.

    Raises:
        CameraError: it does not exist or cannot be read.
    """
    if settings.source == "device":
        return DeviceSource(settings.path, settings.rate, settings.width, settings.height)
    if settings.source == "video":
        return VideoSource(settings.path, settings.rate, settings.loop)
    return FolderSource(settings.path, settings.rate, settings.loop)


class DeviceSource:
    """A USB or other V4L2 camera.

    Args:
        path: device node (`/dev/video0`) or its number.
        rate: images per second; surplus images of a faster device are dropped.
        width: requested from the device in pixels, with `height`; 0 leaves it as it is.
        height: see `width`.

    Raises:
        CameraError: it does not exist, cannot be opened, or does not offer the size.
    """

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
                f"{node} exists but cannot be opened as a camera: it may be in use by another "
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
            # A quarter of a period of slack, or jitter would thin a camera of exactly this rate.
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
    """Waits for the end of each period; another thread can end a wait."""

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
    """A video file.

    Args:
        path: of the file.
        rate: images per second, independent of the file's own rate.
        loop: start again at its end.

    Raises:
        CameraError: it does not exist, is no video, or its images are too large.
    """

    def __init__(self, path: str, rate: float, loop: bool = True) -> None:
        if not Path(path).is_file():
            raise CameraError(f"there is no video file at {path!r}; set the parameter `path`")
        self._path = path
        self._loop = loop
        self._pace = _Pace(rate)
        self._capture = cv2.VideoCapture(path)
        if not self._capture.isOpened():
            raise CameraError(UNDECODABLE.format(path))
        check_size(
            path,
            int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
        if not self._capture.grab():
            raise CameraError(UNDECODABLE.format(path))
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
    """The images of a folder in the order of their names.

    Args:
        path: of the folder.
        rate: images per second.
        loop: start again with the first after the last.

    Raises:
        CameraError: it does not exist or holds no image.
    """

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
        try:
            return read_image_file(self._current)
        except (ImageError, OSError) as error:
            raise CameraError(f"{self._current} cannot be decoded: {error}") from error

    def close(self) -> None:
        self._pace.close()


def read_image_file(path: Path) -> np.ndarray:
    """Pixels of an image file of one of `IMAGE_SUFFIXES`.

    Returns:
        uint8 RGB [height, width, 3].

    Raises:
        ImageError: it cannot be decoded, or is too large.
        OSError: it cannot be read.
    """
    if not path.is_file():
        # A pipe would be waited for, a device read without end.
        raise ImageError("it is not a regular file")
    if path.suffix.lower() in _BY_PILLOW:
        return decode_image(path.read_bytes(), MAX_PIXELS)
    try:
        with Image.open(path) as header:
            check_size(path, *header.size)
    except (OSError, Image.DecompressionBombError) as error:
        raise ImageError(f"the image cannot be decoded: {error}") from error
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ImageError("the image cannot be decoded")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def check_size(path: str | Path, width: int, height: int) -> None:
    """CameraError if images of a source are too large [px]."""
    if width * height > MAX_PIXELS:
        raise CameraError(
            f"{path} has {width}x{height} pixels, but at most {MAX_PIXELS / 1e6:g} million are "
            "accepted; scale it down"
        )
