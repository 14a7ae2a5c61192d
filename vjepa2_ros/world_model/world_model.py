# SPDX-License-Identifier: Apache-2.0
"""The world model as planners use it: encode an image, predict the latents that actions lead to."""

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import cached_property
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vjepa2_ros.world_model.encoder import Encoder, encoder_fields, normalise
from vjepa2_ros.world_model.parts import SUCCESS, UNCERTAINTY
from vjepa2_ros.world_model.poses import compose
from vjepa2_ros.world_model.predictor import ACTION_DIM, ActionConditionedPredictor, KVCache
from vjepa2_ros.world_model.preprocessing import TRAINING_ASPECT, central_crop, preprocess
from vjepa2_ros.world_model.success import SuccessProbe
from vjepa2_ros.world_model.uncertainty import Uncertainty
from vjepa2_ros.world_model.validation import check_positive

# A fingerprint reads at most this many evenly spread values of a tensor, to be quick at 1.3 B.
_FINGERPRINT_VALUES = 65536
# What a network of its own may have otherwise than the predictor whose inputs it gets.
_OWN = {"depth", "predictor_embed_dim", "num_heads", "mlp_ratio"}
_CPU_BUDGET = 32 * 2**20
# Settings of a predictor that came later, and what was the case before.
_ADDED = {"commanded_gripper": False, "use_states": True, "window": 0, "modulated": False}


class WorldModel:
    """Encoder and predictor of one geometry, on one device. Nothing here records gradients.

    Args:
        encoder: images to latents.
        predictor: latents, states and actions to predicted latents.
        crop_aspect: width / height of the central crop of an image, infinite for whole images, see
            `preprocessing`.
        name: for people.
        compute_dtype: other than float32, both networks run under autocast: the rotary embedding
            has to stay in float32.
        parts: further modules contained in the checkpoint, by name. They are no part of
            `config` and `fingerprint`: latents are the same with and without them.

    Raises:
        ValueError: encoder, predictor and the parts `uncertainty` and `success` do not fit each
            other, or `crop_aspect` is invalid.
    """

    def __init__(
        self,
        encoder: Encoder,
        predictor: ActionConditionedPredictor,
        crop_aspect: float = TRAINING_ASPECT,
        name: str = "unnamed",
        compute_dtype: torch.dtype = torch.float32,
        parts: Mapping[str, nn.Module] | None = None,
    ):
        wanted = (predictor.config.rows, predictor.config.columns, predictor.config.embed_dim)
        given = (encoder.rows, encoder.columns, encoder.channels)
        if given != wanted:
            raise ValueError(
                f"the encoder makes latents of {given} (rows, columns, channels),"
                f" the predictor takes {wanted}"
            )
        if UNCERTAINTY in (parts or {}):
            _check_uncertainty(cast(Uncertainty, parts[UNCERTAINTY]), predictor)
        if SUCCESS in (parts or {}):
            width = cast(SuccessProbe, parts[SUCCESS]).config["width"]
            if width != encoder.channels:
                raise ValueError(
                    f"the part {SUCCESS} is of another encoder: it takes latents of {width} "
                    f"channels, the encoder's have {encoder.channels}"
                )
        if not math.isinf(crop_aspect):
            check_positive("crop_aspect", crop_aspect)
        self.encoder = encoder
        self.predictor = predictor
        self.crop_aspect = crop_aspect
        self.name = name
        self.compute_dtype = compute_dtype
        self.parts = dict(parts or {})

    def round_weights(self) -> None:
        """Store the weights of matrix products in `compute_dtype`, in half the memory.

        The results are bitwise the same, because autocast rounds these weights for each product.
        The fingerprint remains that of the unrounded weights.
        """
        _ = self.fingerprint, self.uncertainty_fingerprint, self.success_fingerprint
        for part in (self.encoder, self.predictor, *self.parts.values()):
            for module in part.modules():
                if isinstance(module, nn.Linear | nn.Conv3d):
                    module.to(self.compute_dtype)

    def release_encoder(self) -> None:
        """Free the weights of the encoder, in a process that predicts only; `encode` fails then.

        The fingerprint remains that of all weights.
        """
        _ = self.fingerprint
        self.encoder.to("meta")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.predictor.predictor_proj.weight.device

    @property
    def latent_shape(self) -> tuple[int, int]:
        """(N, D): patches and channels of a latent."""
        return self.encoder.rows * self.encoder.columns, self.encoder.channels

    @property
    def config(self) -> dict:
        """Everything but the weights that determines the latents, as plain JSON values."""
        predictor = asdict(self.predictor.config)
        predictor["image_size"] = list(self.predictor.config.image_size)
        # As before there was a choice, so that models keep their fingerprints.
        for name, default in _ADDED.items():
            if predictor[name] == default:
                del predictor[name]
        return {
            "crop_aspect": self.crop_aspect,
            "encoder": encoder_fields(self.encoder.config),
            "predictor": predictor,
        }

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that identify configuration and weights, the same on every device.

        Latents of models with different fingerprints cannot be compared. Computed at first use;
        weights changed later do not change it.
        """
        return fingerprint_of(self.config, self.encoder, self.predictor)

    @cached_property
    def uncertainty_fingerprint(self) -> str:
        """The same of the part `uncertainty`, which decides on plans; empty without it."""
        if UNCERTAINTY not in self.parts:
            return ""
        part = cast(Uncertainty, self.parts[UNCERTAINTY])
        return fingerprint_of(part.config, part)

    @cached_property
    def success_fingerprint(self) -> str:
        """The same of the part `success`, which may end goals; empty without it."""
        if SUCCESS not in self.parts:
            return ""
        part = cast(SuccessProbe, self.parts[SUCCESS])
        return fingerprint_of(part.config, part)

    @torch.no_grad()
    def encode(self, image: np.ndarray) -> Tensor:
        """Encode an image.

        Args:
            image: uint8 RGB [H, W, 3].

        Returns:
            Latent [N, D] float32 on `device`.

        Raises:
            ValueError: `preprocess` refuses the image.
        """
        frame = preprocess(image, self.encoder.size, self.crop_aspect)
        with self._computation():
            return self.encoder(frame.unsqueeze(0).to(self.device))[0]

    def crop_of(self, image: np.ndarray) -> tuple[int, int, int, int]:
        """The part of an image [H, W, 3] that is encoded: top, left, height, width [px]."""
        height, width = image.shape[:2]
        return central_crop(height, width, self.crop_aspect)

    @torch.no_grad()
    def prefill(self, latents: Tensor, states: Tensor, actions: Tensor) -> KVCache:
        """Compute the KV cache of past frames for `rollout`.

        Args:
            latents: [T, N, D].
            states: [T, 7], see `poses`.
            actions: [T, 7]; each led from its state to the next one, the last one to the present.

        Raises:
            ValueError: shapes do not fit the model, or its predictions attend to few latents only.
        """
        if self.predictor.config.window:
            raise ValueError(
                f"predictions of {self.name} attend to {self.predictor.config.window} latents: "
                "there is nothing to keep of past frames"
            )
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
        past: KVCache | None = None,
        every_step: bool = False,
    ) -> Tensor:
        """Predict the latent after each of S action sequences.

        Each step attends to all predicted frames before it, whose keys and values are cached, and
        states follow from the actions.

        Args:
            latent: present latent [N, D].
            state: present state [7], see `poses`.
            actions: [S, H, 7].
            chunk: most sequences that are computed at once; None: all.
            past: cache of the frames before the present one, from `prefill`.
            every_step: return the latents after every action instead.

        Returns:
            Latents [S, N, D] after the last action, or [S, H, N, D] after each, layer-normed, on
            `device`.

        Raises:
            ValueError: shapes do not fit the model.
        """
        latent, state, actions = self._given(latent, state, actions)
        with self._computation():
            predicted = [
                self._predict(latent, state, part, past, every_step)[0]
                for part in actions.split(chunk or len(actions))
            ]
        return predicted[0] if len(predicted) == 1 else torch.cat(predicted)

    @torch.no_grad()
    def rollout_with_variance(
        self,
        latent: Tensor,
        state: Tensor,
        actions: Tensor,
        chunk: int | None = None,
        past: KVCache | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Predict the latents after every action, and how far they may be off.

        Arguments as in `rollout`.

        Returns:
            Latents [S, H, N, D], as from `rollout`, and the expected squared error of each patch
            [S, H, N], a mean over channels (`uncertainty.Uncertainty`).

        Raises:
            ValueError: shapes do not fit the model, or it has no part `uncertainty`.
        """
        if UNCERTAINTY not in self.parts:
            raise ValueError(f"{self.name} has no part {UNCERTAINTY}")
        latent, state, actions = self._given(latent, state, actions)
        with self._computation():
            latents, variances = zip(
                *(
                    self._predict(latent, state, part, past, True, self.parts[UNCERTAINTY])
                    for part in actions.split(chunk or len(actions))
                ),
                strict=True,
            )
        return torch.cat(latents), torch.cat(variances)

    def _given(
        self, latent: Tensor, state: Tensor, actions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Latent [N, D], state [7] and actions [S, H, 7], float32 on `device`, if they fit."""
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
        return latent, state, actions

    def _predict(
        self,
        latent: Tensor,
        state: Tensor,
        actions: Tensor,
        cache: KVCache | None,
        every_step: bool,
        uncertainty: nn.Module | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Latents as `rollout` returns them, and variances [S, H or 0, N]."""
        if self.predictor.config.window:
            if uncertainty is not None:
                raise ValueError(f"{self.name} cannot tell variances: it attends to a window")
            found = self._predict_in_window(latent, state, actions)
            return found if every_step else found[:, -1], latent.new_empty(len(actions), 0, 0)
        samples, horizon = actions.shape[:2]
        steps, variances, own_cache = [], [], None
        predicted = latent.unsqueeze(0)  # batch 1 while it is shared: it is embedded once
        states = state.expand(samples, 1, -1)
        for step in range(horizon):
            if step > 0:
                states = compose(states, actions[:, step - 1 : step])
            action = actions[:, step : step + 1]
            if uncertainty is not None:
                logs, own_cache = uncertainty(predicted, action, states, own_cache)
                variances.append(logs[:, 0].exp())
            if step < horizon - 1:
                raw, cache = self.predictor.extend(predicted, action, states, past=cache)
            else:  # no later step needs the cache
                raw = self.predictor(predicted, action, states, past=cache)
            predicted = normalise(raw.float())
            if every_step:
                steps.append(predicted)
        latents = torch.stack(steps, dim=1) if every_step else predicted
        none = latents.new_empty(samples, 0, len(latent))
        return latents, torch.stack(variances, dim=1) if variances else none

    def _predict_in_window(self, latent: Tensor, state: Tensor, actions: Tensor) -> Tensor:
        """Latents [S, H, N, D] after each action, each from the last `window` latents alone.

        Nothing is cached: positions count from the first latent of the window.
        """
        samples, horizon = actions.shape[:2]
        latents = [latent.expand(samples, -1, -1)]
        states = [state.expand(samples, 1, -1)]
        for step in range(horizon):
            first = max(0, step + 1 - self.predictor.config.window)
            taken = actions[:, first : step + 1]
            raw = self.predictor(
                torch.cat(latents[first:], dim=1), taken, torch.cat(states[first:], dim=1)
            )
            latents.append(normalise(raw[:, -len(latent) :].float()))
            states.append(compose(states[-1], actions[:, step : step + 1]))
        return torch.stack(latents[1:], dim=1)

    @torch.no_grad()
    def success(self, latent: Tensor, goal: Tensor) -> dict[str, float]:
        """What the part `success` says of a latent [N, D] and a goal [N, D]: probabilities.

        Raises:
            ValueError: the model has no such part.
        """
        if SUCCESS not in self.parts:
            raise ValueError(f"{self.name} has no part {SUCCESS}")
        with self._computation():
            return cast(SuccessProbe, self.parts[SUCCESS]).probabilities(latent, goal)

    def sequences_within(
        self, budget: int | None, horizon: int, context: int = 1, every_step: bool = False
    ) -> int:
        """Number of action sequences that `rollout` may compute at once, at least 1.

        Args:
            budget: memory beside the weights [bytes]; None: what stays in a CPU's caches, which is
                faster than more, or half of what is free on a GPU.
            horizon: actions per sequence.
            context: frames that the model attends to, including the present one.
            every_step: the latents of every step are kept, with their variances if the model has
                the part `uncertainty`.
        """
        if budget is None:
            budget = _CPU_BUDGET if self.device.type == "cpu" else _free_memory(self.device) // 2
        return max(1, budget // self._bytes_per_sequence(horizon, context, every_step))

    def _bytes_per_sequence(self, horizon: int, context: int, every_step: bool) -> int:
        """Peak memory of one sequence [bytes], which a block's attention or MLP reaches."""
        config, size = self.predictor.config, self.compute_dtype.itemsize
        tokens = config.rows * config.columns + config.conditioning_tokens
        frames = context + horizon - 1
        # Per token and channel; residual, LayerNorm and rotation are float32.
        attention = 6 * 4 + 5 * size + (2 * frames * size if frames > 1 else 0)
        mlp = 3 * 4 + 2 * config.mlp_ratio * size
        # The cache before the last step, and the shorter one that it is made from.
        cached = 0 if horizon == 1 else frames - 1 + (frames - 2 if horizon > 2 else 0)
        cache = config.depth * 2 * size * cached
        if every_step and UNCERTAINTY in self.parts:
            # It extends its cache at the last step, too.
            depth = cast(Uncertainty, self.parts[UNCERTAINTY]).network.config.depth
            cache += depth * 2 * size * (2 * horizon - 1)
        latent = 4 * config.rows * config.columns * config.embed_dim
        if every_step:
            latent *= horizon + 1  # and the last one as it is made
        channels = tokens * config.predictor_embed_dim
        scores = 0
        if self.encoder.config._attn_implementation == "eager":
            scores = 2 * 4 * config.num_heads * frames * tokens**2
        return int(1.1 * (channels * (max(attention, mlp) + cache) + latent + scores))

    def _computation(self) -> ExitStack:
        """Context for running the networks: autocast and, if configured, unfused attention."""
        context = ExitStack()
        if self.compute_dtype != torch.float32:
            context.enter_context(torch.autocast(self.device.type, self.compute_dtype))
        if self.encoder.config._attn_implementation == "eager":
            context.enter_context(sdpa_kernel(SDPBackend.MATH))
        return context


def _free_memory(device: torch.device) -> int:
    """Bytes free on a GPU, including those that PyTorch has reserved and does not use."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def fingerprint_of(config: dict, *parts: nn.Module) -> str:
    """16 hexadecimal digits that identify a configuration and weights.

    Args:
        config: plain JSON values.
        parts: modules with the weights, on any device.
    """
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for part in parts:
        for name, weight in sorted(part.state_dict().items()):
            values = weight.flatten()[:: -(-weight.numel() // _FINGERPRINT_VALUES)]
            digest.update(f"{name}{list(weight.shape)}".encode())
            digest.update(values.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _check_uncertainty(uncertainty: Uncertainty, predictor: ActionConditionedPredictor) -> None:
    """ValueError if an uncertainty cannot get what the predictor gets."""
    given, wanted = asdict(uncertainty.network.config), asdict(predictor.config)
    other = [name for name in wanted if name not in _OWN and given[name] != wanted[name]]
    if other:
        name = other[0]
        raise ValueError(
            f"the part {UNCERTAINTY} is of another predictor: its {name} is {given[name]!r}, the "
            f"predictor's {wanted[name]!r}"
        )
