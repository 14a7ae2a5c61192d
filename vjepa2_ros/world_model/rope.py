# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding of the action-conditioned predictor.

Each head's channels are divided into three equal, even parts that are rotated by a token's frame,
row and column; the remaining channels are not rotated. Conditioning tokens (action, state,
extrinsics) are rotated by their frame only.

The frequencies are *tiled* over a part ([f0..fn, f0..fn]) while the rotation acts on neighbouring
channels (2i, 2i+1), so the two channels of a pair are rotated by different angles. This is not a
proper rotation, but the published weights were trained with it.
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
    """Tables of the rotation for `rotate`.

    Args:
        frames, rows, columns: size of the grid. Column positions are scaled by rows / columns, as
            the reference does on non-square grids.
        conditioning_tokens: of each frame, before its patches.
        head_dim: channels of an attention head.
        device: of the tables.

    Returns:
        Cosine and sine per token and channel, each [L, head_dim] float32 with
        L = frames * (conditioning_tokens + rows * columns): within a frame the conditioning tokens,
        then the patches row by row. The sine includes the sign of the pair rotation.
    """
    # The cache is shared by inference mode and training.
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
    """Rotate neighbouring channels of x [..., head_dim] by the tables of `rotary_tables`."""
    swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return torch.addcmul(x * cosine, swapped, sine)
