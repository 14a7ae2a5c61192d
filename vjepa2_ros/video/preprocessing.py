# SPDX-License-Identifier: Apache-2.0
"""From video frames to the encoder's input, as in the published evaluations.

This is not the transform of the action-conditioned model, see `world_model.preprocessing`. There
are two resizes, which differ by up to 1.2 in normalised units on fine textures: frames as numpy
arrays were resized by OpenCV without antialiasing (evaluations), frames as tensors with it (the
published demonstration, `transformers`).
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vjepa2_ros.settings.clip import RESIZES
from vjepa2_ros.world_model.preprocessing import SMALLEST_SIDE

VIEWS = (1, 3)
MAX_ASPECT = 10.0
"""Longest side of a frame, in short ones: scaled up, a line of pixels would fill the memory."""
_MEAN = torch.tensor([0.485, 0.456, 0.406])
_STD = torch.tensor([0.229, 0.224, 0.225])


def preprocess_video(
    frames: np.ndarray, size: int, resize: str = "opencv", views: int = 1
) -> Tensor:
    """Resize, crop and normalise the frames of a clip.

    One view is the central square of frames whose short side is `size` * 256 / 224; three are the
    squares at both ends and amid the long side of frames whose short side is `size`.

    Args:
        frames: uint8 RGB [T, H, W, 3].
        size: side of the square [px].
        resize: one of `RESIZES`.
        views: 1 or 3.

    Returns:
        float32 [views, T, 3, size, size], normalised by ImageNet's mean and deviation.

    Raises:
        ValueError: shape, dtype, resize or views are others, or a frame is too small or too long.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(
            f"frames must be uint8 RGB [T, H, W, 3], got {frames.dtype} {list(frames.shape)}"
        )
    height, width = frames.shape[1:3]
    if min(height, width) < SMALLEST_SIDE or max(height, width) > MAX_ASPECT * min(height, width):
        raise ValueError(
            f"a frame of {width}x{height} px cannot be used: a side needs at least {SMALLEST_SIDE} "
            f"px, and the longer one is {MAX_ASPECT:g} times the other at most"
        )
    if resize not in RESIZES:
        raise ValueError(f"unknown resize {resize!r}: use {' or '.join(RESIZES)}")
    if views not in VIEWS:
        raise ValueError(f"{views} views are unknown: use 1 or 3")
    short = int(size * 256 / 224) if views == 1 else size
    resized = _resize(frames, short, resize)
    crops = np.stack([_crop(resized, corner, size) for corner in _corners(resized, size, views)])
    pixels = torch.from_numpy(crops).movedim(-1, -3).float() / 255.0
    return (pixels - _MEAN[:, None, None]) / _STD[:, None, None]


def _resize(frames: np.ndarray, short: int, resize: str) -> np.ndarray:
    """Frames uint8 [T, h, w, 3] whose shorter side is `short`, the other one truncated."""
    height, width = frames.shape[1:3]
    if min(height, width) == short:
        return frames
    if height < width:
        height, width = short, int(short * width / height)
    else:
        height, width = int(short * height / width), short
    if resize == "opencv":
        return np.stack(
            [cv2.resize(f, (width, height), interpolation=cv2.INTER_LINEAR) for f in frames]
        )
    pixels = torch.from_numpy(frames).movedim(-1, 1).float()
    pixels = F.interpolate(pixels, (height, width), mode="bilinear", antialias=True)
    return pixels.round().clamp(0, 255).byte().movedim(1, -1).numpy()


def _corners(frames: np.ndarray, size: int, views: int) -> list[tuple[int, int]]:
    """Top and left of each view."""
    height, width = frames.shape[1:3]
    if views == 1:
        # Half to even, as Python rounds.
        return [(round((height - size) / 2), round((width - size) / 2))]
    step = (max(height, width) - size) // 2
    shifts = [0, step, 2 * step]
    return [(shift, 0) if height > width else (0, shift) for shift in shifts]


def _crop(frames: np.ndarray, corner: tuple[int, int], size: int) -> np.ndarray:
    top, left = corner
    return frames[:, top : top + size, left : left + size]
