# SPDX-License-Identifier: Apache-2.0
"""From camera images to the encoder's input, as V-JEPA 2-AC was trained.

DROID frames of 720x1280 were cropped to the central 720x972 (aspect 1.35) and resized to a square,
bilinear without antialiasing. The public notebook crops a square instead (aspect 1), and a whole
4:3 frame is nearly what the model was trained on.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

TRAINING_ASPECT = 1.35
TRAINING_NARROWEST_ASPECT = 0.75
NOTEBOOK_ASPECT = 1.0
CROPS = {"training": TRAINING_ASPECT, "square": NOTEBOOK_ASPECT, "whole": math.inf}
"""Aspects of the crops by name; "whole" keeps all of an image of any aspect."""
SMALLEST_SIDE = 32

_MEAN = 255.0 * torch.tensor([0.485, 0.456, 0.406])
_STD = 255.0 * torch.tensor([0.229, 0.224, 0.225])


def central_crop(
    height: int, width: int, crop_aspect: float = TRAINING_ASPECT
) -> tuple[int, int, int, int]:
    """Region of an image that is kept.

    Images wider than `crop_aspect` are cropped at the sides, images narrower than 0.75 at top and
    bottom, and images between are not cropped. With a `crop_aspect` of 1 or less, every image is
    cropped to exactly that aspect, with an infinite one none is.

    Args:
        height, width: of the image [px].
        crop_aspect: width / height.

    Returns:
        Top, left, height, width [px].
    """
    if math.isinf(crop_aspect):
        return 0, 0, height, width
    narrowest = crop_aspect if crop_aspect <= 1.0 else TRAINING_NARROWEST_ASPECT
    crop_height, crop_width = height, width
    if width / height > crop_aspect:
        crop_width = round(height * crop_aspect)
    elif width / height < narrowest:
        crop_height = round(width / narrowest)
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def preprocess(image: np.ndarray, size: int, crop_aspect: float = TRAINING_ASPECT) -> Tensor:
    """Crop centrally, resize to size x size, normalise with ImageNet's mean and deviation.

    Args:
        image: uint8 RGB [H, W, 3], or [T, H, W, 3] for several.
        size: side of the result [px].
        crop_aspect: see `central_crop`.

    Returns:
        float32 [3, size, size], or [T, 3, size, size].

    Raises:
        ValueError: the dtype or shape is another one, or a side is under 32 px.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        raise ValueError(
            f"image must be a uint8 numpy array,"
            f" got {getattr(image, 'dtype', type(image).__name__)}"
        )
    if image.ndim not in (3, 4) or image.shape[-1] != 3:
        raise ValueError(
            f"image must be RGB of shape [H, W, 3] or [T, H, W, 3], got {list(image.shape)}"
        )
    height, width = image.shape[-3:-1]
    if min(height, width) < SMALLEST_SIDE:
        raise ValueError(
            f"image of {width}x{height} px is too small, a side needs at least {SMALLEST_SIDE} px"
        )
    if not crop_aspect > 0:
        raise ValueError(f"crop_aspect must be a positive number, got {crop_aspect}")

    top, left, crop_height, crop_width = central_crop(height, width, crop_aspect)
    # A copy: the image may be read-only, which a tensor cannot be.
    cropped = image[..., top : top + crop_height, left : left + crop_width, :].copy()
    pixels = torch.from_numpy(cropped).movedim(-1, -3).float()
    if (crop_height, crop_width) != (size, size):
        batch = pixels if pixels.dim() == 4 else pixels.unsqueeze(0)
        batch = F.interpolate(
            batch, size=(size, size), mode="bilinear", align_corners=False, antialias=False
        )
        pixels = batch.view(*pixels.shape[:-2], size, size)
    return ((pixels - _MEAN[:, None, None]) / _STD[:, None, None]).contiguous()


def to_image(frame: Tensor) -> np.ndarray:
    """Image uint8 RGB [S, S, 3] of a frame [3, S, S] as `preprocess` gives it."""
    pixels = frame.cpu() * _STD[:, None, None] + _MEAN[:, None, None]
    return pixels.round().clamp(0, 255).to(torch.uint8).movedim(0, -1).contiguous().numpy()
