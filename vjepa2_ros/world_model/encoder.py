# SPDX-License-Identifier: Apache-2.0
"""The image encoder: `transformers.VJEPA2Model` used frame by frame.

The representation V-JEPA 2-AC plans in is the encoder's output for a single
frame repeated to fill a tubelet, layer-normed once more without weights.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import VJEPA2Config, VJEPA2Model


class Encoder(nn.Module):
    """V-JEPA 2 encoder over square frames of `config.crop_size` pixels.

    `model` is the `VJEPA2Model` without its mask predictor; its `encoder`
    (embeddings, layer, layernorm) is open to training with a part of the patches.
    `config.attn_implementation` chooses the attention ("sdpa" or "eager").
    """

    def __init__(self, config: VJEPA2Config):
        super().__init__()
        config = copy.deepcopy(config)
        config.pred_num_hidden_layers = 0  # the mask predictor is never run: don't build its layers
        self.model = VJEPA2Model(config)
        self.model.predictor = None

    @property
    def config(self) -> VJEPA2Config:
        return self.model.config

    @property
    def size(self) -> int:
        """Side of the square input in pixels."""
        return self.config.crop_size

    @property
    def rows(self) -> int:
        return self.config.crop_size // self.config.patch_size

    @property
    def columns(self) -> int:
        return self.rows

    @property
    def channels(self) -> int:
        return self.config.hidden_size

    def forward(self, frames: Tensor) -> Tensor:
        """Latents [B, N, D] float32 of preprocessed frames [B, 3, H, W], every frame on its own."""
        features = self.features(
            frames.unsqueeze(1).expand(-1, self.config.tubelet_size, -1, -1, -1)
        )
        return normalise(features.float())

    def features(self, video: Tensor) -> Tensor:
        """Tokens [B, T/tubelet * rows * columns, D], after the final LayerNorm, of [B, T, 3, H, W].

        The grid follows the input's height and width, neither of which may
        exceed `config.crop_size`; raises ValueError otherwise.
        """
        encoder = self.model.encoder
        tubelets = max(1, video.shape[1] // self.config.tubelet_size)
        rows, columns = (side // self.config.patch_size for side in video.shape[-2:])
        if max(rows, columns) > self.rows:
            raise ValueError(
                f"input of {video.shape[-2]}x{video.shape[-1]} px is larger"
                f" than the encoder's {self.size} px"
            )
        positions = None
        if (rows, columns) != (self.rows, self.columns):
            positions = self.position_ids(tubelets, rows, columns, video.device)
        x = encoder.embeddings(video)
        for layer in encoder.layer:
            x = layer(x, position_mask=positions)[0]
        return encoder.layernorm(x)

    def position_ids(self, tubelets: int, rows: int, columns: int, device: torch.device) -> Tensor:
        """Position ids [1, tubelets * rows * columns] of a grid within the model's square one.

        transformers reads frame, row and column out of a token's index in a
        square grid, so a smaller or oblong grid names its tokens by that index.
        """
        ids = torch.arange(tubelets * self.rows * self.rows, device=device)
        return ids.view(1, tubelets, self.rows, self.rows)[:, :, :rows, :columns].flatten(1)


# What of a VJEPA2Config decides the encoder's output; the rest is for other uses of the class.
_CONFIG_FIELDS = (
    "crop_size",
    "patch_size",
    "tubelet_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "mlp_ratio",
    "layer_norm_eps",
    "hidden_act",
    "qkv_bias",
)


def encoder_fields(config: VJEPA2Config) -> dict:
    """The part of a configuration that decides the encoder's output, as plain JSON values."""
    return {field: getattr(config, field) for field in _CONFIG_FIELDS}


def encoder_config(fields: dict, attention: str = "sdpa") -> VJEPA2Config:
    """The configuration that gives these `encoder_fields`.  Raises ValueError on other fields."""
    if set(fields) != set(_CONFIG_FIELDS):
        missing, unknown = (
            sorted(set(_CONFIG_FIELDS) - set(fields)),
            sorted(set(fields) - set(_CONFIG_FIELDS)),
        )
        raise ValueError(f"encoder configuration: missing {missing}, unknown {unknown}")
    return VJEPA2Config(**fields, attn_implementation=attention)


def normalise(latents: Tensor) -> Tensor:
    """LayerNorm without weights, eps 1e-5, over the channels: the last step of every latent."""
    return F.layer_norm(latents, latents.shape[-1:], eps=1e-5)
