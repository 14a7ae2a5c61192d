# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding of the action-conditioned predictor.

Each head's channels are cut into three equal, even parts that are rotated by a
token's frame, row and column; what is left over at the end stays unrotated.
Conditioning tokens (action, state, extrinsics) are rotated by their frame only.

The frequencies are *tiled* over a part ([f0..fn, f0..fn]) while the rotation
acts on neighbouring channels (2i, 2i+1), so the two channels of a pair turn by
different angles.  This is not a proper rotation, but the published weights were
trained with it.
"""

from functools import lru_cache

import torch
from torch import Tensor

BASE = 10000.0


@lru_cache(maxsize=32)
def rotary_tables(
    frames: int,
    rows: int,
    columns: int,
    conditioning_tokens: int,
    head_dim: int,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Cosine and signed sine per token and channel, each [L, head_dim] float32.

    L = frames * (conditioning_tokens + rows * columns); within a frame the
    conditioning tokens come first, then the patches row by row.  Column
    positions are scaled by rows / columns, as the reference does on
    non-square grids.  The sine carries the sign of the pair rotation.
    """
    # Cached tables may first be asked for in inference mode and later in training.
    with torch.inference_mode(False), torch.no_grad():
        part = 2 * (head_dim // 3 // 2)
        frame = torch.arange(frames, dtype=torch.float32, device=device)
        row = torch.arange(rows, dtype=torch.float32, device=device)
        column = torch.arange(columns, dtype=torch.float32, device=device) * (rows / columns)

        tokens = conditioning_tokens + rows * columns
        angles = torch.zeros(frames, tokens, head_dim, device=device)
        angles[..., :part] = _angles(frame, part)[:, None]
        patches = angles[:, conditioning_tokens:].unflatten(1, (rows, columns))
        patches[..., part : 2 * part] = _angles(row, part)[:, None]
        patches[..., 2 * part : 3 * part] = _angles(column, part)

        angles = angles.flatten(0, 1)
        sine = angles.sin()
        sine[:, 0::2] *= -1
        return angles.cos(), sine


def _angles(position: Tensor, channels: int) -> Tensor:
    """Angles [positions, channels] with the frequencies tiled twice."""
    half = channels // 2
    frequency = 1.0 / BASE ** (
        torch.arange(half, dtype=torch.float32, device=position.device) / half
    )
    return torch.outer(position, frequency).repeat(1, 2)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate neighbouring channels of x [..., head_dim] by tables from `rotary_tables`."""
    swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return torch.addcmul(x * cosine, swapped, sine)
