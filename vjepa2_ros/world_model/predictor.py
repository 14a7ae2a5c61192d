# SPDX-License-Identifier: Apache-2.0
"""The action-conditioned predictor of V-JEPA 2-AC (arXiv 2506.09985, section 3).

A transformer over frames of tokens. Each frame is an action token, a state token, optionally an
extrinsics token, and one token per patch; attention is full within a frame and causal between
frames. Where actions modulate instead (adaptive layer norm, as in one model of jepa-wms), a frame
is its patches alone. Module names are those of the reference implementations, so their weights load
unrenamed.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vjepa2_ros.world_model.attention import attend
from vjepa2_ros.world_model.rope import rotary_tables, rotate
from vjepa2_ros.world_model.validation import (
    MAX_IMAGE_SIDE,
    check_bool,
    check_count,
    check_divides,
    check_positive,
)

ACTION_DIM = 7
EXTRINSICS_DIM = 6
LAYER_NORM_EPS = 1e-6


@dataclass(frozen=True)
class PredictorConfig:
    """Geometry of the predictor; all defaults but `num_frames` are those of the published model.

    Attributes:
        image_size: (height, width) of the encoder's input [px].
        patch_size: of the encoder [px].
        embed_dim: channels of a latent.
        predictor_embed_dim: width of the transformer.
        depth: number of blocks.
        num_heads: attention heads.
        num_frames: video frames; at most num_frames // tubelet_size latents are taken.
        tubelet_size: of the encoder, in frames.
        use_extrinsics: whether each frame has a token of the camera's pose.
        mlp_ratio: hidden width of the MLPs relative to `predictor_embed_dim`.
        commanded_gripper: whether states hold the closedness that the gripper was told last,
            instead of the measured one as in the published model. They part where fingers stop at
            an object: told to close, they are measured a quarter closed round a cup.
        use_states: whether each frame has a token of the robot's state; those of jepa-wms that were
            trained without have none.
        window: latents that a prediction attends to, the present one included; 0: all. The
            predictors of jepa-wms were trained for, and plan with, two.
        modulated: whether a frame's action has no token, but shifts, scales and gates what each
            block does with the frame's patches (adaptive layer norm, "AdaLN").

    Raises:
        ValueError: a value is invalid.
    """

    image_size: tuple[int, int] = (256, 256)
    patch_size: int = 16
    embed_dim: int = 1408
    predictor_embed_dim: int = 1024
    depth: int = 24
    num_heads: int = 16
    num_frames: int = 16
    tubelet_size: int = 2
    use_extrinsics: bool = False
    mlp_ratio: float = 4.0
    commanded_gripper: bool = False
    use_states: bool = True
    window: int = 0
    modulated: bool = False

    def __post_init__(self) -> None:
        if type(self.image_size) is not tuple or len(self.image_size) != 2:
            raise ValueError(f"image_size must be (height, width), not {self.image_size!r:.99}")
        check_count("patch_size", self.patch_size)
        for side in self.image_size:
            check_count("image_size", side, MAX_IMAGE_SIDE)
            check_divides("patch_size", self.patch_size, "image_size", side)
        for name in ("embed_dim", "predictor_embed_dim", "depth", "num_heads", "num_frames"):
            check_count(name, getattr(self, name))
        check_count("tubelet_size", self.tubelet_size, self.num_frames)
        check_bool("use_extrinsics", self.use_extrinsics)
        check_bool("commanded_gripper", self.commanded_gripper)
        check_bool("use_states", self.use_states)
        check_bool("modulated", self.modulated)
        if self.modulated and (self.use_states or self.use_extrinsics):
            raise ValueError("a modulated predictor takes neither states nor extrinsics")
        if self.window != 0:
            check_count("window", self.window)
        check_positive("mlp_ratio", self.mlp_ratio)
        # Rotary positions turn pairs of channels.
        width = self.predictor_embed_dim
        check_divides("2 * num_heads", 2 * self.num_heads, "predictor_embed_dim", width)
        check_count("mlp_ratio * width", int(self.mlp_ratio * width))

    @property
    def rows(self) -> int:
        """Rows of the patch grid."""
        return self.image_size[0] // self.patch_size

    @property
    def columns(self) -> int:
        """Columns of the patch grid."""
        return self.image_size[1] // self.patch_size

    @property
    def max_frames(self) -> int:
        """Most latents in a sequence."""
        return self.num_frames // self.tubelet_size

    @property
    def conditioning_tokens(self) -> int:
        """Tokens of a frame in addition to its patches."""
        return (not self.modulated) + self.use_states + self.use_extrinsics


KeyValue = tuple[Tensor, Tensor]
"""Keys and values of one layer, each [B, heads, L, head_dim]."""


@dataclass(frozen=True)
class KVCache:
    """Keys and values of past frames.

    Attributes:
        frames: number of past frames.
        layers: keys and values of each layer, with B rows or 1 row shared by all sequences.
    """

    frames: int
    layers: list[KeyValue]


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(
        self,
        x: Tensor,
        cosine: Tensor,
        sine: Tensor,
        mask: Tensor | None = None,
        past: KeyValue | None = None,
        present: list[KeyValue] | None = None,
    ) -> Tensor:
        """Attend from new tokens to themselves and to past ones.

        Args:
            x: new tokens [B, L, dim].
            cosine, sine: rotary tables of the new tokens, each [L, head_dim].
            mask: boolean [L, past + L], True where a token may attend; None: everywhere.
            past: keys and values of past tokens, with B or 1 rows.
            present: list to which those of all tokens [B, heads, past + L, head_dim] are appended.

        Returns:
            Tokens [B, L, dim].
        """
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))
        query_key = rotate(qkv[:, :, :2], cosine[:, None, None], sine[:, None, None])
        value = qkv[:, :, 2].transpose(1, 2)
        # The tables make query and key float32; the kernel needs one dtype, the value's.
        query, key = query_key.to(value.dtype).permute(2, 0, 3, 1, 4)
        if past is not None:
            past_key, past_value = (part.expand(len(x), -1, -1, -1) for part in past)
            key, value = torch.cat([past_key, key], dim=2), torch.cat([past_value, value], dim=2)
        if present is not None:
            # Copies: views would keep the queries alive as well.
            present.append((key.contiguous(), value.contiguous()))
        x = attend(query, key, value, mask)
        return self.proj(x.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens [..., dim] to [..., dim]."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.mlp = MLP(dim, int(dim * mlp_ratio))

    def forward(
        self,
        x: Tensor,
        cosine: Tensor,
        sine: Tensor,
        mask: Tensor | None = None,
        past: KeyValue | None = None,
        present: list[KeyValue] | None = None,
    ) -> Tensor:
        """Arguments and result as in `Attention.forward`."""
        x = x + self.attn(self.norm1(x), cosine, sine, mask, past, present)
        return x + self.mlp(self.norm2(x))


class ModulatedBlock(Block):
    """Pre-norm transformer block with adaptive layer norm (Peebles and Xie, arXiv 2212.09748)."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float):
        super().__init__(dim, heads, mlp_ratio)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))

    def forward(
        self,
        x: Tensor,
        cosine: Tensor,
        sine: Tensor,
        mask: Tensor | None = None,
        past: KeyValue | None = None,
        present: list[KeyValue] | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        """Arguments and result as in `Attention.forward`.

        Args:
            condition: embedded action of each frame [B, T, dim].
        """
        frames = condition.shape[1]
        x = x.unflatten(1, (frames, -1))
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = (
            self.adaLN_modulation(condition).unsqueeze(2).chunk(6, dim=-1)
        )
        normed = self.norm1(x) * (1 + scale) + shift
        attended = self.attn(normed.flatten(1, 2), cosine, sine, mask, past, present)
        x = x + gate * attended.unflatten(1, (frames, -1))
        x = x + mlp_gate * self.mlp(self.norm2(x) * (1 + mlp_scale) + mlp_shift)
        return x.flatten(1, 2)


class ActionConditionedPredictor(nn.Module):
    """Predicts, for each frame's latent, action and state, the next frame's latent."""

    def __init__(self, config: PredictorConfig):
        super().__init__()
        dim = config.predictor_embed_dim
        self.config = config
        self.predictor_embed = nn.Linear(config.embed_dim, dim)
        self.action_encoder = nn.Linear(ACTION_DIM, dim)
        if config.use_states:
            self.state_encoder = nn.Linear(ACTION_DIM, dim)
        if config.use_states or config.use_extrinsics:
            # Published checkpoints always contain it, whether it is used or not.
            self.extrinsics_encoder = nn.Linear(EXTRINSICS_DIM, dim)
        block = ModulatedBlock if config.modulated else Block
        self.predictor_blocks = nn.ModuleList(
            block(dim, config.num_heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.predictor_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.predictor_proj = nn.Linear(dim, config.embed_dim)
        self._initialise()

    def _initialise(self) -> None:
        """The reference's: truncated normal of 0.02, residual branches scaled down with depth."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        with torch.no_grad():
            for number, block in enumerate(self.predictor_blocks, start=1):
                block.attn.proj.weight.div_(math.sqrt(2.0 * number))
                block.mlp.fc2.weight.div_(math.sqrt(2.0 * number))

    def forward(
        self,
        latents: Tensor,
        actions: Tensor,
        states: Tensor,
        extrinsics: Tensor | None = None,
        past: KVCache | None = None,
    ) -> Tensor:
        """Predict the latent that follows each frame.

        Args:
            latents: [B, T*N, D] float32, frame by frame, patches row by row; a batch of 1 is shared
                by all B action sequences and embedded once.
            actions: [B, T, 7], see `poses`.
            states: [B, T, 7], see `poses`; without effect where the configuration has no states.
            extrinsics: [B, T, 6] camera pose, only where the configuration uses it.
            past: cache of the frames before these, from `extend`.

        Returns:
            Prediction [B, T*N, D], not layer-normed; rows t*N... are the latent after action t.

        Raises:
            ValueError: shapes do not fit the configuration.
        """
        return self._run(latents, actions, states, extrinsics, past, None)

    def extend(
        self,
        latents: Tensor,
        actions: Tensor,
        states: Tensor,
        extrinsics: Tensor | None = None,
        past: KVCache | None = None,
    ) -> tuple[Tensor, KVCache]:
        """As `forward`, and also return the cache extended by these frames.

        The cache is exact, because no frame attends to a later one.
        """
        layers: list[KeyValue] = []
        prediction = self._run(latents, actions, states, extrinsics, past, layers)
        past_frames = past.frames if past is not None else 0
        return prediction, KVCache(past_frames + actions.shape[1], layers)

    def _run(
        self,
        latents: Tensor,
        actions: Tensor,
        states: Tensor,
        extrinsics: Tensor | None,
        past: KVCache | None,
        present: list[KeyValue] | None,
    ) -> Tensor:
        """`forward`; keys and values of each layer are appended to `present`, if it is given."""
        config = self.config
        batch, frames = actions.shape[:2]
        patches = config.rows * config.columns
        past_frames = past.frames if past is not None else 0
        self._check(latents, actions, states, extrinsics, patches, past_frames)

        x = self.predictor_embed(latents).unflatten(1, (frames, patches)).expand(batch, -1, -1, -1)
        action = self.action_encoder(actions)
        conditioning = [] if config.modulated else [action]
        if config.use_states:
            conditioning.append(self.state_encoder(states))
        if extrinsics is not None:
            conditioning.append(self.extrinsics_encoder(extrinsics))
        x = torch.cat([token.unsqueeze(2) for token in conditioning] + [x], dim=2).flatten(1, 2)
        # Where autocast has layers calculate in bfloat16, their sum keeps the weights' precision.
        x = x.to(self.predictor_norm.weight.dtype)

        cosine, sine = rotary_tables(
            past_frames + frames,
            config.rows,
            config.columns,
            config.conditioning_tokens,
            config.predictor_embed_dim // config.num_heads,
            x.device,
        )
        cosine, sine = cosine[-x.shape[1] :], sine[-x.shape[1] :]
        # A single frame attends to all tokens and needs no mask.
        mask = None
        if frames > 1:
            tokens = config.conditioning_tokens + patches
            mask = frame_causal_mask(past_frames + frames, tokens, x.device)[-x.shape[1] :]
        modulation = [action] if config.modulated else []
        for number, block in enumerate(self.predictor_blocks):
            past_layer = past.layers[number] if past is not None else None
            x = block(x, cosine, sine, mask, past_layer, present, *modulation)

        x = x.unflatten(1, (frames, -1))[:, :, config.conditioning_tokens :].flatten(1, 2)
        return self.predictor_proj(self.predictor_norm(x))

    def _check(
        self,
        latents: Tensor,
        actions: Tensor,
        states: Tensor,
        extrinsics: Tensor | None,
        patches: int,
        past_frames: int,
    ) -> None:
        batch, frames = actions.shape[:2]
        if past_frames + frames > self.config.max_frames:
            raise ValueError(
                f"{past_frames + frames} frames given, this predictor takes at most"
                f" {self.config.max_frames}"
            )
        wanted = (frames * patches, self.config.embed_dim)
        if latents.dim() != 3 or latents.shape[1:] != wanted or latents.shape[0] not in (1, batch):
            raise ValueError(
                f"latents have shape {list(latents.shape)}, wanted {[batch, *wanted]}"
                f" ({frames} frames of {patches} patches)"
            )
        if actions.shape != (batch, frames, ACTION_DIM) or states.shape != actions.shape:
            raise ValueError(
                f"actions {list(actions.shape)} and states {list(states.shape)}"
                f" must both be [B, T, {ACTION_DIM}]"
            )
        if self.config.use_extrinsics != (extrinsics is not None):
            raise ValueError(
                "this predictor requires extrinsics"
                if self.config.use_extrinsics
                else "this predictor takes no extrinsics"
            )
        if extrinsics is not None and extrinsics.shape != (batch, frames, EXTRINSICS_DIM):
            raise ValueError(
                f"extrinsics have shape {list(extrinsics.shape)},"
                f" wanted {[batch, frames, EXTRINSICS_DIM]}"
            )


@lru_cache(maxsize=32)
def frame_causal_mask(frames: int, tokens_per_frame: int, device: torch.device) -> Tensor:
    """Boolean [L, L], True where the row's token may attend to the column's, by frame."""
    with torch.inference_mode(False):
        frame = torch.arange(frames, device=device).repeat_interleave(tokens_per_frame)
        return frame[:, None] >= frame[None, :]
