# SPDX-License-Identifier: Apache-2.0
"""A picture from a latent, to look at what a world model imagines. Never on the control path."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vjepa2_ros.world_model.preprocessing import to_image
from vjepa2_ros.world_model.validation import check_count, check_divides


class PatchDecoder(nn.Module):
    """Linear in each token: how its patch differs from the background of the fixed camera.

    Args:
        config: "channels" of a latent, "image_size" and "patch_size" [px].

    Attributes:
        config: as above.
        background: what the camera sees most of the time [3, S, S], as `preprocess` gives it.
        contrast: standard deviation of the frames from the background, scalar.

    Raises:
        ValueError: the configuration cannot be used.
    """

    def __init__(self, config: dict) -> None:
        super().__init__()
        unknown = set(config) ^ {"channels", "image_size", "patch_size"}
        if unknown:
            raise ValueError(f"missing or unknown: {', '.join(sorted(unknown))}")
        for name, value in config.items():
            check_count(name, value)
        check_divides("patch_size", config["patch_size"], "image_size", config["image_size"])
        self.config = dict(config)
        side, patch = config["image_size"], config["patch_size"]
        self.patch = nn.Linear(config["channels"], 3 * patch**2)
        self.register_buffer("background", torch.zeros(3, side, side))
        self.register_buffer("contrast", torch.ones(()))

    @torch.no_grad()
    def observe(self, frames: Tensor) -> None:
        """Take background and contrast from preprocessed frames [B, 3, S, S]."""
        self.background.copy_(frames.median(dim=0).values)
        self.contrast.copy_((frames - self.background).std())

    def forward(self, latents: Tensor) -> Tensor:
        """Frames [B, 3, S, S], as `preprocess` gives them, of latents [B, N, D]."""
        side = self.config["image_size"] // self.config["patch_size"]
        patches = self.patch(latents).mT.unflatten(2, (side, side))
        deviation = functional.pixel_shuffle(patches, self.config["patch_size"])
        return self.background + self.contrast * deviation

    def loss(self, latents: Tensor, frames: Tensor) -> Tensor:
        """Mean square error of frames [B, 3, S, S] decoded from latents [B, N, D], in contrasts."""
        return functional.mse_loss(self(latents), frames) / self.contrast**2

    @torch.no_grad()
    def picture(self, latent: Tensor) -> np.ndarray:
        """Image uint8 RGB [S, S, 3] of a latent [N, D]."""
        return to_image(self(latent[None])[0])
