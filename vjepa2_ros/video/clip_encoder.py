# SPDX-License-Identifier: Apache-2.0
"""Encoders of video clips, from all layouts: published files, `transformers`, our own folders."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import VJEPA2Config, VJEPA2Model

from vjepa2_ros.settings.clip import PARTS
from vjepa2_ros.video.mask_predictor import MaskPredictor, mask_predictor_state
from vjepa2_ros.world_model.checkpoint import choose_computation, load_world_model
from vjepa2_ros.world_model.encoder import Encoder, encoder_config, encoder_fields
from vjepa2_ros.world_model.parts import assign_weights, build_part
from vjepa2_ros.world_model.published import (
    PublishedGeometry,
    infer_encoder_fields,
    keys_of,
    read_torch_file,
    transformers_state,
    weights_in,
)
from vjepa2_ros.world_model.validation import CheckpointError, first_line
from vjepa2_ros.world_model.world_model import fingerprint_of

SIZES = {"384": 384}
DEFAULT_SIZE = 256
# What the mask predictor's configuration has in common with the encoder's.
_SHARED = ("patch_size", "crop_size", "tubelet_size", "hidden_size", "qkv_bias", "layer_norm_eps",
           "hidden_act")  # fmt: skip


@dataclass
class ClipEncoder:
    """An encoder of clips on a device. Nothing here records gradients.

    Attributes:
        encoder: in evaluation mode.
        source: what was loaded, and which part of it, for people.
        device: where it runs.
        dtype: other than float32, it runs under autocast.
    """

    encoder: Encoder
    source: str
    device: torch.device
    dtype: torch.dtype

    def fingerprint(self, clips: dict) -> str:
        """16 hexadecimal digits that identify the encoder and how clips are taken.

        Args:
            clips: how, as plain JSON values.
        """
        described = {"encoder": encoder_fields(self.encoder.config), "clips": clips}
        return fingerprint_of(described, self.encoder)

    @torch.no_grad()
    def tokens(self, clips: Tensor) -> Tensor:
        """Encode clips.

        Args:
            clips: [B, T, 3, H, W] as from `preprocessing.preprocess_video`; an odd last frame is
                left out.

        Returns:
            Tokens [B, T / tubelet * rows * columns, D] float32 after the final LayerNorm, tubelet
            by tubelet, row by row.

        Raises:
            ValueError: fewer frames than a tubelet has, or a frame is larger than the encoder's.
        """
        tubelet = self.encoder.config.tubelet_size
        if clips.shape[1] < tubelet:
            raise ValueError(
                f"a clip needs at least {tubelet} frames, this one has {clips.shape[1]}"
            )
        clips = clips[:, : clips.shape[1] // tubelet * tubelet].to(self.device)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.encoder.features(clips).float()


def load_clip_encoder(
    path: str | Path,
    part: str = PARTS[0],
    size: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
    attention: str = "sdpa",
) -> ClipEncoder:
    """Load an encoder.

    Args:
        path: a published file (`vitl.pt`, `vith.pt`, `vitg.pt`, `vitg-384.pt`, or of a model that
            contains an encoder), a folder of `transformers`, or one of our own.
        part: of a published file, one of `PARTS`; one that it lacks is replaced by the other.
        size: side of the input [px]; None: that of the folder, of the JSON file beside a published
            file, or what its name says.
        device, dtype, attention: see `checkpoint.load_world_model`.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        ValueError: an option is unknown.
    """
    if part not in PARTS:
        raise ValueError(f"unknown part {part!r}: use {' or '.join(PARTS)}")
    path = Path(path).expanduser()
    chosen_device, chosen_dtype = choose_computation(device, dtype, attention)
    if path.is_dir():
        encoder, name = _from_folder(path, size, attention), "encoder"
    elif path.is_file():
        encoder, name = _from_file(path, part, size, attention)
    else:
        raise CheckpointError(f"there is no checkpoint at {path.absolute()}")
    return ClipEncoder(
        encoder.to(chosen_device).eval(), f"{name} of {path}", chosen_device, chosen_dtype
    )


def load_mask_predictor(path: Path, encoder: Encoder) -> MaskPredictor:
    """Load the mask predictor of a published file, for an encoder of the same file.

    Returns:
        The predictor in evaluation mode, float32, where the encoder is.

    Raises:
        CheckpointError: the file holds none, or one for another encoder.
    """
    weights = weights_in(read_torch_file(path), "predictor", path)
    if "mask_tokens.0" not in weights or "predictor_embed.weight" not in weights:
        raise CheckpointError(
            f"{path} holds no mask predictor: use a pre-training checkpoint such as vitl.pt"
        )
    try:
        config = mask_predictor_config(weights, encoder.config, PublishedGeometry.beside(path))
        state = mask_predictor_state(weights)
    except (ArithmeticError, IndexError, KeyError, RuntimeError, TypeError) as error:
        raise CheckpointError(
            f"{path}: the mask predictor is not complete ({first_line(error)})"
        ) from error
    predictor = build_part("predictor", lambda: MaskPredictor(config), state, str(path))
    assign_weights("predictor", predictor, state, str(path))
    return predictor.to(next(encoder.parameters()).device).eval()


def mask_predictor_config(
    weights: dict[str, Tensor], encoder: VJEPA2Config, geometry: PublishedGeometry
) -> VJEPA2Config:
    """Configuration of a mask predictor from its weights' shapes.

    Args:
        weights: under their published names.
        encoder: configuration of the encoder whose tokens it takes.
        geometry: what the shapes do not tell; its heads are of `predictor_head_dim`, of 32 channels
            for the published width of 384.
    """
    width = len(weights["predictor_embed.weight"])
    head_dim = 32 if width == 384 else geometry.predictor_head_dim
    blocks = [
        int(found[1])
        for name in weights
        if (found := re.match(r"predictor_blocks\.(\d{1,3})\.", name))
    ]
    depth = 1 + max(blocks, default=-1)
    options: dict[str, Any] = {name: getattr(encoder, name) for name in _SHARED} | {
        "pred_hidden_size": width,
        "pred_num_attention_heads": max(1, width // head_dim),
        "pred_num_hidden_layers": depth,
        "pred_mlp_ratio": len(weights["predictor_blocks.0.mlp.fc1.weight"]) / width,
        "pred_num_mask_tokens": sum(name.startswith("mask_tokens.") for name in weights),
        "attn_implementation": encoder._attn_implementation,
    }
    return VJEPA2Config(**options)


def _from_file(path: Path, part: str, size: int | None, attention: str) -> tuple[Encoder, str]:
    """Encoder of a published file, and which part of it."""
    content = read_torch_file(path)
    held = [name for name in (part, *PARTS) if isinstance(content.get(name), dict)]
    if not held:
        raise CheckpointError(
            f"{path} holds no encoder, but {keys_of(content)}: the "
            "encoder of a probe or of a retrained predictor is in a file of its own"
        )
    weights = weights_in(content, held[0], path)
    geometry = PublishedGeometry.beside(path)
    fields = infer_encoder_fields(weights, geometry)
    has_geometry = path.with_suffix(".json").exists()
    fields["crop_size"] = size or (geometry.image_size if has_geometry else _size_of(path.name))
    state = transformers_state(weights)
    encoder = build_part(
        held[0], lambda: Encoder(encoder_config(fields, attention)), state, str(path)
    )
    assign_weights(held[0], encoder.model, state, str(path))
    return encoder, held[0]


def _size_of(name: str) -> int:
    return next((size for text, size in SIZES.items() if text in name), DEFAULT_SIZE)


def _from_folder(path: Path, size: int | None, attention: str) -> Encoder:
    """Encoder of a folder of `transformers`, or of one of our own."""
    try:
        description = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is no model folder: {first_line(error)}") from error
    if not isinstance(description, dict):
        raise CheckpointError(f"{path}/config.json is no JSON object")
    if "format" in description:
        encoder = load_world_model(path, "cpu", "float32", attention).encoder
        if size not in (None, encoder.size):
            raise CheckpointError(f"{path} is of {encoder.size} px, not {size}: leave the size out")
        return encoder
    if description.get("model_type") != "vjepa2":
        raise CheckpointError(
            f"{path} holds a model of type {description.get('model_type')!r}, wanted vjepa2"
        )
    try:
        # Its type says nothing of the second value.
        pair: Any = VJEPA2Model.from_pretrained(
            path,
            local_files_only=True,
            attn_implementation=attention,
            dtype=torch.float32,
            output_loading_info=True,
        )
        loaded, report = pair
    except Exception as error:  # noqa: BLE001 - transformers raises anything on a bad folder
        raise CheckpointError(f"{path} cannot be loaded: {first_line(error)}") from error
    state = {name: w for name, w in loaded.state_dict().items() if name.startswith("encoder.")}
    if missing := sorted(set(report["missing_keys"]) & set(state)):
        raise CheckpointError(f"{path} lacks {len(missing)} weights, such as {missing[0]}")
    config = loaded.config
    config.crop_size = size or config.crop_size
    encoder = Encoder(config)
    encoder.model.load_state_dict(state)
    return encoder
