# SPDX-License-Identifier: Apache-2.0
"""The image encoder: `transformers.VJEPA2Model` used frame by frame.

The representation that V-JEPA 2-AC plans in is the encoder's output for a single
frame repeated to fill a tubelet, layer-normed once more without weights.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import VJEPA2Config, VJEPA2Model
from transformers.activations import ACT2FN

from vjepa2_ros.world_model.validation import (
    MAX_IMAGE_SIDE,
    check_bool,
    check_count,
    check_divides,
    check_positive,
)


class Encoder(nn.Module):
    """V-JEPA 2 encoder over square frames of `config.crop_size` pixels.

    Attributes:
        model: `VJEPA2Model` without its mask predictor. Training on a subset of the patches uses
            its `encoder` (embeddings, layer, layernorm) directly.
    """

    def __init__(self, config: VJEPA2Config):
        super().__init__()
        config = copy.deepcopy(config)
        config.pred_num_hidden_layers = 0  # the mask predictor is never used
        self.model = VJEPA2Model(config)
        self.model.predictor = None

    @property
    def config(self) -> VJEPA2Config:
        """The configuration of `transformers`."""
        return self.model.config

    @property
    def size(self) -> int:
        """Side of the square input [px]."""
        return self.config.crop_size

    @property
    def rows(self) -> int:
        """Rows of the patch grid."""
        return self.config.crop_size // self.config.patch_size

    @property
    def columns(self) -> int:
        """Columns of the patch grid, as many as rows."""
        return self.rows

    @property
    def channels(self) -> int:
        """Channels D of a latent."""
        return self.config.hidden_size

    def forward(self, frames: Tensor) -> Tensor:
        """Encode each frame on its own.

        Args:
            frames: preprocessed frames [B, 3, H, W].

        Returns:
            Latents [B, N, D] float32, layer-normed, patches row by row.
        """
        features = self.features(
            frames.unsqueeze(1).expand(-1, self.config.tubelet_size, -1, -1, -1)
        )
        return normalise(features.float())

    def features(self, video: Tensor) -> Tensor:
        """Encode a video; the patch grid follows its height and width.

        Args:
            video: preprocessed frames [B, T, 3, H, W].

        Returns:
            Tokens [B, T / tubelet_size * rows * columns, D] after the final LayerNorm.

        Raises:
            ValueError: height or width exceed `config.crop_size`.
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

        transformers computes frame, row and column from a token's index in a square grid, so the
        tokens of a smaller or non-square grid are given the indices that they have there.
        """
        ids = torch.arange(tubelets * self.rows * self.rows, device=device)
        return ids.view(1, tubelets, self.rows, self.rows)[:, :, :rows, :columns].flatten(1)


# The fields of a VJEPA2Config that determine the encoder's output.
_COUNTS = (
    "patch_size",
    "tubelet_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
)
_POSITIVE = ("mlp_ratio", "layer_norm_eps")
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
    """The fields of a configuration that determine the encoder's output, as plain JSON values."""
    return {field: getattr(config, field) for field in _CONFIG_FIELDS}


def encoder_config(fields: dict, attention: str = "sdpa") -> VJEPA2Config:
    """The configuration with these `encoder_fields`.

    Args:
        fields: values of all fields, by name.
        attention: "sdpa" (fused) or "eager".

    Raises:
        ValueError: a field is missing, unknown or has an invalid value.
    """
    if set(fields) != set(_CONFIG_FIELDS):
        missing, unknown = (
            sorted(set(_CONFIG_FIELDS) - set(fields)),
            sorted(set(fields) - set(_CONFIG_FIELDS)),
        )
        raise ValueError(f"encoder configuration: missing {missing}, unknown {unknown}")
    check_count("crop_size", fields["crop_size"], MAX_IMAGE_SIDE)
    for name in _COUNTS:
        check_count(name, fields[name])
    for name in _POSITIVE:
        check_positive(name, fields[name])
    if fields["hidden_act"] not in tuple(ACT2FN):
        raise ValueError(f"unknown hidden_act {fields['hidden_act']!r}")
    check_bool("qkv_bias", fields["qkv_bias"])
    check_divides("patch_size", fields["patch_size"], "crop_size", fields["crop_size"])
    heads = fields["num_attention_heads"]
    width = fields["hidden_size"]
    check_divides("num_attention_heads", heads, "hidden_size", width)
    check_count("mlp_ratio * width", int(fields["mlp_ratio"] * width))
    return VJEPA2Config(**fields, attn_implementation=attention)


def normalise(latents: Tensor) -> Tensor:
    """LayerNorm without weights, eps 1e-5, over the channels: the last step of every latent."""
    return F.layer_norm(latents, latents.shape[-1:], eps=1e-5)
