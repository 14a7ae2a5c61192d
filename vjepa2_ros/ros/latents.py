# SPDX-License-Identifier: Apache-2.0
"""Latents as ROS messages, checked on the way in."""

from __future__ import annotations

from array import array

import torch
from std_msgs.msg import Header

from vjepa2_ros.msg import Latent
from vjepa2_ros.ros.conversions import LATENT_TYPES, MessageError, latent_array


def latent_message(
    latent: torch.Tensor,
    grid: tuple[int, int],
    model: str,
    header: Header,
    half: bool = False,
    crop: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> Latent:
    """Message of a latent.

    Args:
        latent: [rows * columns, channels], on any device.
        grid: rows and columns.
        model: fingerprint of the model that made it.
        header: of its image.
        half: send it as float16 instead of float32.
        crop: part of the image that was encoded: top, left, height, width in pixels.
    """
    rows, columns = grid
    encoding = Latent.FLOAT16 if half else Latent.FLOAT32
    top, left, height, width = crop
    values = latent.detach().cpu().float().numpy().astype(LATENT_TYPES[encoding])
    return Latent(
        header=header,
        model=model,
        crop_left=left,
        crop_top=top,
        crop_width=width,
        crop_height=height,
        rows=rows,
        columns=columns,
        channels=values.shape[1],
        encoding=encoding,
        data=array("B", values.tobytes()),
    )


def latent_tensor(
    message: Latent, grid: tuple[int, int], channels: int, model: str
) -> torch.Tensor:
    """Latent of a message.

    Args:
        message: in one of the encodings FLOAT32 and FLOAT16.
        grid: expected rows and columns.
        channels: expected channels.
        model: fingerprint of the model that must have made it.

    Returns:
        float32 [rows * columns, channels] on the CPU.

    Raises:
        MessageError: it comes from another model, has another shape, or is not finite.
    """
    if message.model != model:
        raise MessageError(
            f"latent of another model: made by {message.model!r}, but this node has loaded "
            f"{model!r}; give encoder and planner the same checkpoint"
        )
    shape, expected = (message.rows, message.columns, message.channels), (*grid, channels)
    if shape != expected:
        raise MessageError(f"latent of another shape: {shape} instead of {expected}")
    return torch.from_numpy(latent_array(message))
