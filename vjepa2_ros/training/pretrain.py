# SPDX-License-Identifier: Apache-2.0
"""Pre-training of the small encoder: masked latent prediction, and the robot's own state.

As in V-JEPA 2 (arXiv 2506.09985, section 2.1), a student encodes part of the patches, a small
predictor predicts the latents of the rest, and the targets come from an exponential moving average
(EMA) of the student, compared by L1. Three things differ at this size:

* The context includes a whole earlier frame of the same episode, so that only what moved has to be
  predicted, not the static background. Each frame is encoded on its own, as in use.
* The latents have to contain the state that the robot measured itself, through a fixed orthonormal
  projection: each one the tool position, their mean the gripper's closedness and the yaw. The
  position becomes part of every token on a known scale, so that the energy, a mean distance over
  tokens, decreases towards the goal even where hand and goal share no patch. The positions of the
  objects are not used: a robot does not measure them.
* Every latent has to show its own patch: a linear decoder (`PatchDecoder`) is trained beside the
  encoder, and its error is part of the loss. Masked prediction keeps what is needed to predict a
  frame from the one before, and of objects that hardly ever move next to nothing: moving the box
  by 8 cm then changed the energy as much as moving the hand by 8 mm.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import VJEPA2Config
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2Layer

from vjepa2_ros.training.dataset import Dataset
from vjepa2_ros.training.distributed import share
from vjepa2_ros.training.loop import LoopConfig, train
from vjepa2_ros.world_model.attention import attend
from vjepa2_ros.world_model.decoder import PatchDecoder
from vjepa2_ros.world_model.encoder import Encoder
from vjepa2_ros.world_model.preprocessing import preprocess
from vjepa2_ros.world_model.rope import rotary_tables, rotate


@dataclass(frozen=True)
class PretrainConfig:
    """Batches, masks and losses of the pre-training.

    Attributes:
        batch: pairs of frames per step.
        visible: share of the later frame's patches that the student encodes.
        predicted: share of the later frame's patches that are predicted.
        max_gap: most steps between the two frames.
        predictor_layers: depth of the mask predictor, which is discarded afterwards.
        momentum: of the EMA target at the start; it rises to 1 linearly.
        state_weight: weight of the state loss; 0 disables it.
        state_gain: length in latent space of one `POSITION_SCALE` of motion.
        gripper_weight: of closedness and yaw in the state loss, beside 1 for each axis of the
            position.
        pixel_weight: weight of the decoder's error. With 0 the decoder is trained on latents that
            know nothing of it.
    """

    batch: int = 32
    visible: float = 0.15
    predicted: float = 0.45
    max_gap: int = 3
    predictor_layers: int = 2
    momentum: float = 0.99
    state_weight: float = 2.0
    state_gain: float = 3.0
    gripper_weight: float = 8.0
    pixel_weight: float = 1.0


_BACKGROUND_FRAMES = 300
POSITION_CENTRE = (0.5, 0.0, 0.2)
"""Origin of the positions in the state loss [m], in the middle of the default workspace."""
POSITION_SCALE = 0.2
"""Metres in one unit of the state loss; the gripper's full stroke is one unit as well."""
YAW_SCALE = 1.57
"""Radians in one unit of the state loss."""


class MaskedPrediction(nn.Module):
    """Student, target, mask predictor, decoder and state projection, and their loss over pairs."""

    def __init__(self, encoder: Encoder, config: PretrainConfig) -> None:
        super().__init__()
        self.config = config
        self.student = encoder
        self.target = copy.deepcopy(encoder).requires_grad_(False)
        width = encoder.channels
        shape: VJEPA2Config = encoder.model.config
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.layers = nn.ModuleList(
            VJEPA2Layer(shape, hidden_size=width, num_attention_heads=shape.num_attention_heads)
            for _ in range(config.predictor_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, width)
        self.decoder = PatchDecoder(
            {"channels": width, "image_size": shape.crop_size, "patch_size": shape.patch_size}
        )
        self.state_projection = nn.Linear(width, 5, bias=False).requires_grad_(False)
        nn.init.orthogonal_(self.state_projection.weight)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def losses(
        self,
        earlier: torch.Tensor,
        later: torch.Tensor,
        visible: torch.Tensor,
        hidden: torch.Tensor,
        state: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Losses of the latents at hidden patches, and of the state read from every latent.

        Args:
            earlier, later: preprocessed frames [B, 3, S, S].
            visible, hidden: patch indices [B, V] and [B, P] of the later frame, encoded and
                predicted.
            state: of the earlier frame, in units of the state loss [B, 5].

        Returns:
            Scalars: "loss" and its terms "masked", "position", "gripper", "yaw" and "pixels".
        """
        context = encode_patches(self.student, earlier)
        seen = encode_patches(self.student, later, visible)
        with torch.no_grad():
            wanted = encode_patches(self.target, later)
            wanted = wanted.gather(1, hidden[..., None].expand(-1, -1, wanted.shape[-1]))
        batch, patches = context.shape[:2]
        everything = torch.arange(patches, device=context.device).expand(batch, -1)
        tokens = torch.cat(
            [context, seen, self.mask_token.expand(batch, hidden.shape[1], -1)], dim=1
        )
        places = torch.cat([everything, visible + patches, hidden + patches], dim=1)
        tokens = run_layers(self.layers, tokens, places)
        predicted = self.project(self.norm(tokens[:, -hidden.shape[1] :])).float()
        predicted = functional.layer_norm(predicted, predicted.shape[-1:])
        masked = functional.l1_loss(predicted, wanted)
        config = self.config
        position, gripper, yaw = self.state_losses(context, state)
        pixels = self.decoder.loss(context if config.pixel_weight else context.detach(), earlier)
        loss = (
            masked
            + config.state_weight * (3 * position + config.gripper_weight * (gripper + yaw)) / 4
            + (config.pixel_weight or 1.0) * pixels
        )
        return {
            "loss": loss,
            "masked": masked,
            "position": position,
            "gripper": gripper,
            "yaw": yaw,
            "pixels": pixels,
        }

    def state_losses(
        self, latents: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Losses of the robot's state as latents give it.

        Every latent has to give the position. Closedness and yaw show in a few patches and nowhere
        else; their mean over the latents has to be right, so that those patches may give them for
        all. Their errors are squared: of a gripper that is open or closed, the absolute error is
        least at a constant for as long as next to nothing is known of it.

        Args:
            latents: of frames [B, N, D] float32.
            state: of the robot in them, in units of the state loss [B, 5].

        Returns:
            Losses of position, closedness and yaw, scalars.
        """
        # A product and a sum, which stay in float32 where layers calculate in bfloat16.
        projected = (latents[..., None, :] * self.state_projection.weight).sum(-1)
        given = projected / self.config.state_gain
        position = functional.smooth_l1_loss(
            given[..., :3], state[:, None, :3].expand_as(given[..., :3]), beta=0.02
        )
        gripper, yaw = (given[..., 3:].mean(1) - state[:, 3:]).square().mean(0)
        return position, gripper, yaw

    @torch.no_grad()
    def follow(self, progress: float) -> None:
        """Update the EMA target; `progress` is from 0 to 1."""
        momentum = self.config.momentum + (1 - self.config.momentum) * progress
        for target, student in zip(
            self.target.parameters(), self.student.parameters(), strict=True
        ):
            target.lerp_(student, 1 - momentum)


def encode_patches(
    encoder: Encoder, frames: torch.Tensor, patches: torch.Tensor | None = None
) -> torch.Tensor:
    """Encode frames, or a part of their patches only.

    Args:
        encoder: on the device of the frames.
        frames: preprocessed frames [B, 3, S, S].
        patches: indices [B, V] of the patches; None for all.

    Returns:
        Latents [B, V, D], layer-normed, as those of `encoder` up to rounding.
    """
    layers = encoder.model.encoder
    # Where layers calculate in bfloat16, what they add up does not.
    tokens = layers.embeddings(frames[:, None]).float()
    if patches is None:
        patches = torch.arange(tokens.shape[1], device=tokens.device)
    else:
        tokens = tokens.gather(1, patches[..., None].expand(-1, -1, tokens.shape[-1]))
    tokens = layers.layernorm(run_layers(layers.layer, tokens, patches))
    return functional.layer_norm(tokens, tokens.shape[-1:])


def run_layers(
    layers: Iterable[VJEPA2Layer], tokens: torch.Tensor, places: torch.Tensor
) -> torch.Tensor:
    """Tokens [B, L, D] after layers of `transformers`, with the rotary tables made once for all.

    `transformers` makes them anew for queries and keys of every layer, which takes half of the time
    of a training step at this size.

    Args:
        layers: of one width and number of heads.
        tokens: [B, L, D].
        places: indices [B, L] or [L] of the tokens in a clip of two frames.
    """
    tables = None
    for layer in layers:
        attention = layer.attention
        if tables is None:
            side, size = attention.grid_size, attention.attention_head_size
            whole = rotary_tables(2, side, side, 0, size, tokens.device)
            tables = [table[places].unsqueeze(-3) for table in whole]
        x = layer.norm1(tokens)
        query, key, value = (
            part(x).unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)
            for part in (attention.query, attention.key, attention.value)
        )
        # The tables make query and key float32, also where layers calculate in bfloat16.
        query, key = (rotate(part, *tables).to(value.dtype) for part in (query, key))
        mixed = attend(query, key, value)
        tokens = tokens + attention.proj(mixed.transpose(1, 2).flatten(2))
        tokens = tokens + layer.mlp(layer.norm2(tokens))
    return tokens


def state_targets(states: np.ndarray) -> torch.Tensor:
    """Targets of the state loss [B, 5] of states [B, 7]: position, closedness and yaw, centred."""
    position = (states[:, :3] - np.array(POSITION_CENTRE)) / POSITION_SCALE
    parts = position, states[:, 6:] - 0.5, states[:, 5:6] / YAW_SCALE
    return torch.tensor(np.concatenate(parts, axis=1), dtype=torch.float32)


def draw_pairs(
    dataset: Dataset, random: np.random.Generator, batch: int, max_gap: int, episodes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Episode and both steps of `batch` random pairs, up to `max_gap` apart, in either order."""
    length = dataset.frames.shape[1]
    episode = random.integers(0, episodes, batch)
    first = random.integers(0, length, batch)
    second = np.clip(first + random.integers(-max_gap, max_gap + 1, batch), 0, length - 1)
    return episode, first, second


def pretrain(
    dataset: Dataset,
    encoder: Encoder,
    config: PretrainConfig,
    loop: LoopConfig,
    folder: Path,
    episodes: int,
) -> tuple[Encoder, PatchDecoder]:
    """Train an encoder in place and on its device, also in several processes (`distributed`).

    Args:
        dataset: of which frames and states are used.
        encoder: trained in place.
        config: batches, masks and losses.
        loop: length, learning rate and seed.
        folder: for checkpoints, history and loss curves.
        episodes: only frames of that many first episodes are used.

    Returns:
        The EMA of the encoder, frozen, in evaluation mode, and the decoder of its latents.
    """
    torch.manual_seed(loop.seed)
    device = next(encoder.parameters()).device
    module = MaskedPrediction(encoder, config).to(device)
    module.decoder.observe(_some_frames(dataset, episodes, encoder.size).to(device))
    patches = encoder.rows * encoder.columns
    visible = round(config.visible * patches)
    hidden = round(config.predicted * patches)

    def losses(random: np.random.Generator, progress: float) -> dict[str, torch.Tensor]:
        pairs = draw_pairs(dataset, random, config.batch, config.max_gap, episodes)
        episode, first, second = map(share, pairs)
        places = np.tile(np.arange(patches), (config.batch, 1))
        order = torch.from_numpy(share(random.permuted(places, axis=1)))
        return module.losses(
            preprocess(dataset.frames[episode, first], encoder.size).to(device),
            preprocess(dataset.frames[episode, second], encoder.size).to(device),
            order[:, :visible].to(device),
            order[:, visible : visible + hidden].to(device),
            state_targets(dataset.states[episode, first]).to(device),
        )

    train("encoder", module, losses, loop, folder, after_step=module.follow)
    for part in (module.target, module.decoder):
        part.eval().requires_grad_(False)
    return module.target, module.decoder


def _some_frames(dataset: Dataset, episodes: int, size: int) -> torch.Tensor:
    """Frames [B, 3, S, S] of different moments, preprocessed."""
    random = np.random.default_rng(0)
    episode = random.integers(0, episodes, _BACKGROUND_FRAMES)
    step = random.integers(0, dataset.frames.shape[1], _BACKGROUND_FRAMES)
    return preprocess(dataset.frames[episode, step], size)
