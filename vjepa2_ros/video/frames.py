# SPDX-License-Identifier: Apache-2.0
"""Frames of a video by their number: of a file, a folder of images, or a camera for a while."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

import cv2
import numpy as np

from vjepa2_ros.camera.decoding import ImageError
from vjepa2_ros.camera.sources import (
    IMAGE_SUFFIXES,
    UNDECODABLE,
    CameraError,
    Source,
    check_size,
    read_image_file,
)


class VideoError(ValueError):
    """A video cannot be read; the text says what to do."""


class Video(Protocol):
    """Frames that can be read by their number.

    Attributes:
        name: for people.
        length: number of frames, at least 1.
        rate: [frames/s]; None where nothing tells it.
    """

    name: str
    length: int
    rate: float | None

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Read frames.

        Args:
            indices: numbers below `length`, in any order, also repeated.

        Returns:
            uint8 RGB [len(indices), H, W, 3].

        Raises:
            VideoError: one of them cannot be decoded.
        """


def open_video(path: Path) -> Video:
    """Open a video file, or a folder of images as the frames of a video.

    Raises:
        VideoError: it does not exist, cannot be decoded, or has no frame.
    """
    path = path.expanduser()
    if path.is_dir():
        return FolderVideo(path)
    if path.is_file():
        return FileVideo(path)
    raise VideoError(f"there is no video at {path}")


class FileVideo:
    """A video file. Opening it counts its frames, since what files say of that is often wrong."""

    def __init__(self, path: Path) -> None:
        self.name, self._path = path.name, path
        capture = self._open()
        try:
            size = [int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH,
                                                      cv2.CAP_PROP_FRAME_HEIGHT)]  # fmt: skip
            check_size(path, *size)
            rate = capture.get(cv2.CAP_PROP_FPS)
            self.rate = rate if np.isfinite(rate) and rate > 0 else None
            self.length = 0
            while capture.grab():
                self.length += 1
        except CameraError as error:
            raise VideoError(str(error)) from error
        finally:
            capture.release()
        if not self.length:
            raise VideoError(f"{path} holds no frame that can be decoded")

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        wanted = {int(index) for index in indices}
        frames: dict[int, np.ndarray] = {}
        capture = self._open()
        try:
            # From the first frame on: seeking is off by some frames in many files.
            for index in range(max(wanted) + 1):
                if not capture.grab():
                    break
                if index in wanted:
                    decoded, frame = capture.retrieve()
                    if decoded:
                        frames[index] = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        finally:
            capture.release()
        if missing := sorted(wanted - set(frames)):
            raise VideoError(f"frame {missing[0]} of {self._path} cannot be decoded")
        return np.stack([frames[int(index)] for index in indices])

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self._path))
        if not capture.isOpened():
            raise VideoError(UNDECODABLE.format(self._path))
        return capture


class FolderVideo:
    """The images of a folder in the order of their names, all of one size."""

    def __init__(self, path: Path) -> None:
        self.name, self.rate = path.name, cast("float | None", None)
        self._files = sorted(f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)
        self.length = len(self._files)
        if not self._files:
            raise VideoError(
                f"folder {path} holds no image; expected are files ending in "
                + ", ".join(IMAGE_SUFFIXES)
                + ". A folder of videos is no video: give one of its files"
            )

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        frames: dict[int, np.ndarray] = {}
        for index in sorted({int(index) for index in indices}):
            file = self._files[index]
            try:
                frames[index] = read_image_file(file)
            except (ImageError, CameraError, OSError) as error:
                raise VideoError(f"{file}: {error}") from error
            first = next(iter(frames.values())).shape
            if frames[index].shape != first:
                raise VideoError(
                    f"{file} has {frames[index].shape[1]}x{frames[index].shape[0]} pixels, the "
                    f"images before it {first[1]}x{first[0]}: the frames of a video have one size"
                )
        return np.stack([frames[int(index)] for index in indices])


class FramesInMemory:
    """Frames that are already there.

    Args:
        frames: uint8 RGB [T, H, W, 3], T at least 1.
        name: for people.
        rate: [frames/s], None where nothing tells it.
    """

    def __init__(self, frames: np.ndarray, name: str, rate: float | None = None) -> None:
        self.name, self.rate, self.length = name, rate, len(frames)
        self._frames = frames

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        return self._frames[np.asarray(indices)]


def record(source: Source, count: int, name: str, rate: float) -> FramesInMemory:
    """Take the next images of a camera as a video.

    Args:
        source: that is read, and not closed.
        count: number of images.
        name: for people.
        rate: of the source [images/s].

    Raises:
        VideoError: it ended, or an image cannot be decoded.
    """
    frames = []
    try:
        while len(frames) < count and source.grab():
            frames.append(source.retrieve())
    except CameraError as error:
        raise VideoError(str(error)) from error
    if len(frames) < count:
        raise VideoError(f"{name} ended after {len(frames)} of {count} images")
    return FramesInMemory(np.stack(frames), name, rate)
