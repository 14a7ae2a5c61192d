# SPDX-License-Identifier: Apache-2.0
"""The world model as planners use it: encode an image, imagine what actions lead to."""

import hashlib
import json
from contextlib import ExitStack
from dataclasses import asdict
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vjepa2_ros.world_model.encoder import Encoder, encoder_fields, normalise
from vjepa2_ros.world_model.poses import compose
from vjepa2_ros.world_model.predictor import ACTION_DIM, ActionConditionedPredictor, Memory
from vjepa2_ros.world_model.preprocessing import TRAINING_ASPECT, preprocess

# Fingerprints read at most this many evenly spread values of a tensor: 1.3 B would take long.
_FINGERPRINT_VALUES = 65536
_CPU_BUDGET = 32 * 2**20


class WorldModel:
    """Encoder and predictor of one geometry, on one device.  Nothing here records gradients.

    `compute_dtype` other than float32 runs both under autocast: the rotary embedding has to stay
    in float32.
    Raises ValueError where encoder and predictor do not fit each other.
    """

    def __init__(
        self,
        encoder: Encoder,
        predictor: ActionConditionedPredictor,
        crop_aspect: float = TRAINING_ASPECT,
        name: str = "unnamed",
        compute_dtype: torch.dtype = torch.float32,
    ):
        wanted = (predictor.config.rows, predictor.config.columns, predictor.config.embed_dim)
        given = (encoder.rows, encoder.columns, encoder.channels)
        if given != wanted:
            raise ValueError(
                f"the encoder makes latents of {given} (rows, columns, channels),"
                f" the predictor takes {wanted}"
            )
        self.encoder = encoder
        self.predictor = predictor
        self.crop_aspect = crop_aspect
        self.name = name
        self.compute_dtype = compute_dtype

    def round_weights(self) -> None:
        """Keep the weights of matrix products in `compute_dtype`, in half the memory.

        Autocast would round them for each product: the results are the same to the last bit. The
        fingerprint stays that of the weights as they were.
        """
        _ = self.fingerprint
        for part in (self.encoder, self.predictor):
            for module in part.modules():
                if isinstance(module, nn.Linear | nn.Conv3d):
                    module.to(self.compute_dtype)

    @property
    def device(self) -> torch.device:
        return self.predictor.predictor_proj.weight.device

    @property
    def latent_shape(self) -> tuple[int, int]:
        """(N, D): patches and channels of a latent."""
        return self.encoder.rows * self.encoder.columns, self.encoder.channels

    @property
    def config(self) -> dict:
        """Everything but the weights that decides what the model computes; plain JSON values."""
        return {
            "crop_aspect": self.crop_aspect,
            "encoder": encoder_fields(self.encoder.config),
            "predictor": asdict(self.predictor.config)
            | {"image_size": list(self.predictor.config.image_size)},
        }

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits naming configuration and weights, the same on every device.

        Latents of models with different fingerprints cannot be compared.
        Computed at first use; weights changed later do not change it.
        """
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        for part in (self.encoder, self.predictor):
            for name, weight in sorted(part.state_dict().items()):
                values = weight.flatten()[:: -(-weight.numel() // _FINGERPRINT_VALUES)]
                digest.update(f"{name}{list(weight.shape)}".encode())
                digest.update(values.float().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    @torch.no_grad()
    def encode(self, image: np.ndarray) -> Tensor:
        """Latent [N, D] float32 on `device` of an image, uint8 RGB [H, W, 3].

        Raises ValueError on an image that `preprocess` refuses.
        """
        frame = preprocess(image, self.encoder.size, self.crop_aspect)
        with self._computation():
            return self.encoder(frame.unsqueeze(0).to(self.device))[0]

    @torch.no_grad()
    def remember(self, latents: Tensor, states: Tensor, actions: Tensor) -> Memory:
        """What `rollout` needs of past frames: latents [T, N, D], states [T, 7], actions [T, 7].

        Each action led from its state to the next one; the last one to the present.
        Raises ValueError on shapes that do not fit the model.
        """
        latents, states, actions = (
            x.to(self.device, torch.float32).unsqueeze(0) for x in (latents, states, actions)
        )
        with self._computation():
            return self.predictor.extend(latents.flatten(1, 2), actions, states)[1]

    @torch.no_grad()
    def rollout(
        self,
        latent: Tensor,
        state: Tensor,
        actions: Tensor,
        chunk: int | None = None,
        past: Memory | None = None,
    ) -> Tensor:
        """Latents [S, N, D] imagined after each of S action sequences, layer-normed, on `device`.

        latent [N, D] and state [7] (see `poses`) are the present; actions [S, H, 7].
        past: frames before the present, from `remember`.
        Each step sees the whole imagined history; later states follow from the
        actions.  At most `chunk` sequences are imagined at once (None: all).
        Each frame goes through the predictor once: what later ones need of it is kept.
        Raises ValueError on shapes that do not fit the model.
        """
        if latent.shape != self.latent_shape:
            raise ValueError(
                f"latent has shape {list(latent.shape)}, this model's are {list(self.latent_shape)}"
            )
        if state.shape != (ACTION_DIM,) or actions.dim() != 3 or actions.shape[2] != ACTION_DIM:
            raise ValueError(
                "wanted state [7] and actions [S, H, 7],"
                f" got {list(state.shape)}, {list(actions.shape)}"
            )
        latent, state, actions = (
            x.to(self.device, torch.float32) for x in (latent, state, actions)
        )
        with self._computation():
            imagined = [
                self._imagine(latent, state, part, past)
                for part in actions.split(chunk or len(actions))
            ]
        return imagined[0] if len(imagined) == 1 else torch.cat(imagined)

    def _imagine(
        self, latent: Tensor, state: Tensor, actions: Tensor, memory: Memory | None
    ) -> Tensor:
        samples, horizon = actions.shape[:2]
        imagined = latent.unsqueeze(0)  # of batch 1 while it is shared: it is embedded once
        states = state.expand(samples, 1, -1)
        for step in range(horizon):
            if step > 0:
                states = compose(states, actions[:, step - 1 : step])
            action = actions[:, step : step + 1]
            if step < horizon - 1:
                raw, memory = self.predictor.extend(imagined, action, states, memory=memory)
            else:  # nothing follows, and nothing is kept
                raw = self.predictor(imagined, action, states, memory=memory)
            imagined = normalise(raw.float())
        return imagined

    def sequences_within(self, budget: int | None, horizon: int, context: int = 1) -> int:
        """How many sequences of `horizon` actions may be imagined at once, at least 1.

        budget: bytes that this may take beside the weights. None: what stays in a CPU's caches,
            which is faster than more, or half of what is free on a GPU.
        context: frames that are seen, the present one among them.
        """
        if budget is None:
            budget = _CPU_BUDGET if self.device.type == "cpu" else _free_memory(self.device) // 2
        return max(1, budget // self._bytes_per_sequence(horizon, context))

    def _bytes_per_sequence(self, horizon: int, context: int) -> int:
        """Most memory that is alive at once for one sequence: in a block's attention or MLP."""
        config, size = self.predictor.config, self.compute_dtype.itemsize
        tokens = config.rows * config.columns + config.conditioning_tokens
        frames = context + horizon - 1
        # Per token and channel; residual, LayerNorm and rotation are float32.
        attention = 6 * 4 + 5 * size + (2 * frames * size if frames > 1 else 0)
        mlp = 3 * 4 + 2 * config.mlp_ratio * size
        # Keys and values of the frames before the last step, and of those before while they grow.
        remembered = 0 if horizon == 1 else frames - 1 + (frames - 2 if horizon > 2 else 0)
        kept = config.depth * 2 * size * remembered
        latent = 4 * config.rows * config.columns * config.embed_dim
        channels = tokens * config.predictor_embed_dim
        scores = 0
        if self.encoder.config._attn_implementation == "eager":
            scores = 2 * 4 * config.num_heads * frames * tokens**2
        return int(1.1 * (channels * (max(attention, mlp) + kept) + latent + scores))

    def _computation(self) -> ExitStack:
        """Context for running the networks: precision and, where asked for, unfused attention."""
        context = ExitStack()
        if self.compute_dtype != torch.float32:
            context.enter_context(torch.autocast(self.device.type, self.compute_dtype))
        if self.encoder.config._attn_implementation == "eager":
            context.enter_context(sdpa_kernel(SDPBackend.MATH))
        return context


def _free_memory(device: torch.device) -> int:
    """Bytes free on a GPU, those that PyTorch keeps for its next tensors among them."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
