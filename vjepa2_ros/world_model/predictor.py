# SPDX-License-Identifier: Apache-2.0
"""The action-conditioned predictor of V-JEPA 2-AC (arXiv 2506.09985, section 3).

A transformer over frames of tokens.  Each frame is an action token, a state
token, optionally an extrinsics token, and one token per patch; attention is full
inside a frame and causal from frame to frame.  Module names are those of the
reference implementation, so its weights load without renaming.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vjepa2_ros.world_model.rope import rotary_tables, rotate

ACTION_DIM = 7
EXTRINSICS_DIM = 6
LAYER_NORM_EPS = 1e-6


@dataclass(frozen=True)
class PredictorConfig:
    """Geometry of the predictor; the defaults but `num_frames` are those of the published model.

    `image_size` is (height, width) in pixels.  `num_frames` counts video frames:
    the predictor takes at most num_frames // tubelet_size latents.
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

    @property
    def rows(self) -> int:
        return self.image_size[0] // self.patch_size

    @property
    def columns(self) -> int:
        return self.image_size[1] // self.patch_size

    @property
    def max_frames(self) -> int:
        return self.num_frames // self.tubelet_size

    @property
    def conditioning_tokens(self) -> int:
        return 3 if self.use_extrinsics else 2


KeyValue = tuple[Tensor, Tensor]
"""Keys and values of one layer, each [B, heads, L, head_dim]."""


@dataclass(frozen=True)
class Memory:
    """What attention needs of frames that were already gone through.

    frames: how many. layers: keys and values of each layer, of B sequences or of 1 for all.
    """

    frames: int
    layers: list[KeyValue]


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions, through PyTorch's fused kernel."""

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
        kept: list[KeyValue] | None = None,
    ) -> Tensor:
        """Attend from tokens x [B, L, dim] to themselves and to `past`, which has B or 1 rows.

        Keys and values [B, heads, past + L, head_dim] of all are added to `kept`, if it is given.
        """
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))
        query_key = rotate(qkv[:, :, :2], cosine[:, None, None], sine[:, None, None])
        value = qkv[:, :, 2].transpose(1, 2)
        # The tables lift query and key to float32; the kernel wants one dtype, the value's.
        query, key = query_key.to(value.dtype).permute(2, 0, 3, 1, 4)
        if past is not None:
            past_key, past_value = (part.expand(len(x), -1, -1, -1) for part in past)
            key, value = torch.cat([past_key, key], dim=2), torch.cat([past_value, value], dim=2)
        if kept is not None:
            # Copies: as views they would keep the queries alive as well.
            kept.append((key.contiguous(), value.contiguous()))
        x = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.proj(x.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
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
        kept: list[KeyValue] | None = None,
    ) -> Tensor:
        """As `Attention`."""
        x = x + self.attn(self.norm1(x), cosine, sine, mask, past, kept)
        return x + self.mlp(self.norm2(x))


class ActionConditionedPredictor(nn.Module):
    """Predicts, for each frame's latent, action and state, the next frame's latent."""

    def __init__(self, config: PredictorConfig):
        super().__init__()
        dim = config.predictor_embed_dim
        if dim % config.num_heads:
            raise ValueError(
                f"predictor width {dim} is not a multiple of its {config.num_heads} heads"
            )
        self.config = config
        self.predictor_embed = nn.Linear(config.embed_dim, dim)
        self.action_encoder = nn.Linear(ACTION_DIM, dim)
        self.state_encoder = nn.Linear(ACTION_DIM, dim)
        # Published weights always hold it, whether it is used or not.
        self.extrinsics_encoder = nn.Linear(EXTRINSICS_DIM, dim)
        self.predictor_blocks = nn.ModuleList(
            Block(dim, config.num_heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.predictor_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.predictor_proj = nn.Linear(dim, config.embed_dim)
        self._initialise()

    def _initialise(self) -> None:
        """Truncated normal of 0.02, residual branches scaled down with depth, as the reference."""
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
        memory: Memory | None = None,
    ) -> Tensor:
        """Raw prediction [B, T*N, D]: row t*N.. is the latent after action t, not layer-normed.

        latents: [B, T*N, D] float32, frame by frame, patches row by row; a batch
            of 1 is shared by all B actions and embedded once.
        actions: [B, T, 7] and states: [B, T, 7], see `poses`.
        extrinsics: [B, T, 6] camera pose, only where the configuration uses it.
        memory: of the frames before these, from `extend`.
        Raises ValueError on shapes that do not fit the configuration.
        """
        return self._run(latents, actions, states, extrinsics, memory, None)

    def extend(
        self,
        latents: Tensor,
        actions: Tensor,
        states: Tensor,
        extrinsics: Tensor | None = None,
        memory: Memory | None = None,
    ) -> tuple[Tensor, Memory]:
        """As `forward`, with the memory of all frames so far for those that follow.

        Exact, since no frame sees a later one: what was computed for a frame stays.
        """
        layers: list[KeyValue] = []
        prediction = self._run(latents, actions, states, extrinsics, memory, layers)
        past_frames = memory.frames if memory is not None else 0
        return prediction, Memory(past_frames + actions.shape[1], layers)

    def _run(
        self,
        latents: Tensor,
        actions: Tensor,
        states: Tensor,
        extrinsics: Tensor | None,
        memory: Memory | None,
        kept: list[KeyValue] | None,
    ) -> Tensor:
        """The prediction; keys and values of each layer are added to `kept`, if it is given."""
        config = self.config
        batch, frames = actions.shape[:2]
        patches = config.rows * config.columns
        past_frames = memory.frames if memory is not None else 0
        self._check(latents, actions, states, extrinsics, patches, past_frames)

        x = self.predictor_embed(latents).unflatten(1, (frames, patches)).expand(batch, -1, -1, -1)
        conditioning = [self.action_encoder(actions), self.state_encoder(states)]
        if extrinsics is not None:
            conditioning.append(self.extrinsics_encoder(extrinsics))
        x = torch.cat([token.unsqueeze(2) for token in conditioning] + [x], dim=2).flatten(1, 2)

        cosine, sine = rotary_tables(
            past_frames + frames,
            config.rows,
            config.columns,
            config.conditioning_tokens,
            config.predictor_embed_dim // config.num_heads,
            x.device,
        )
        cosine, sine = cosine[-x.shape[1] :], sine[-x.shape[1] :]
        # A single frame sees all there is, and needs no mask.
        mask = None
        if frames > 1:
            tokens = config.conditioning_tokens + patches
            mask = frame_causal_mask(past_frames + frames, tokens, x.device)[-x.shape[1] :]
        for number, block in enumerate(self.predictor_blocks):
            past = memory.layers[number] if memory is not None else None
            x = block(x, cosine, sine, mask, past, kept)

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
                "this predictor wants extrinsics"
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
    """Boolean [L, L], True where the row's token sees the column's: its own and earlier frames."""
    with torch.inference_mode(False):
        frame = torch.arange(frames, device=device).repeat_interleave(tokens_per_frame)
        return frame[:, None] >= frame[None, :]
