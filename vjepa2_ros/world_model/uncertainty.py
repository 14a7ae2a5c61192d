# SPDX-License-Identifier: Apache-2.0
"""How far a prediction may be from what follows: an expected squared error for each patch."""

from __future__ import annotations

from torch import Tensor, nn

from vjepa2_ros.world_model.predictor import (
    ActionConditionedPredictor,
    KVCache,
    PredictorConfig,
)

_LEAST, _MOST = -9.0, 2.0
"""Bounds of the logarithm; layer-normed latents differ by 4 at most in the mean square."""
_START = -4.0


class Uncertainty(nn.Module):
    """Tells the variance of a predictor's predictions, from what they are made from.

    A predictor that is trained on squared differences gives the mean of what may follow. If an
    object falls in four cases of ten, the energy of the mean is less than the mean of the energies,
    by the variance. The network has the predictor's architecture and no weights in common with it,
    so that the predictions are the same with and without it.

    Args:
        config: the fields of a `PredictorConfig` as plain JSON values; `depth` is its own.

    Attributes:
        config: as above.

    Raises:
        ValueError: the configuration cannot be used.
    """

    def __init__(self, config: dict) -> None:
        super().__init__()
        try:
            fields = PredictorConfig(**config | {"image_size": tuple(config["image_size"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"no configuration of a predictor: {error}") from error
        self.config = dict(config)
        self.network = ActionConditionedPredictor(fields)
        self.network.predictor_proj = nn.Linear(fields.predictor_embed_dim, 1)
        nn.init.trunc_normal_(self.network.predictor_proj.weight, std=0.002)
        nn.init.constant_(self.network.predictor_proj.bias, _START)

    def forward(
        self, latents: Tensor, actions: Tensor, states: Tensor, past: KVCache | None = None
    ) -> tuple[Tensor, KVCache]:
        """Logarithms of the expected squared errors, and the cache extended by these frames.

        Args:
            latents: that the predictor was given [B, T*N, D], from the present one on.
            actions: [B, T, 7].
            states: [B, T, 7].
            past: cache of the frames before these, from this network.

        Returns:
            [B, T, N] float32: of what is predicted from each frame, means over channels.

        Raises:
            ValueError: shapes do not fit the configuration.
        """
        logs, past = self.network.extend(latents, actions, states, past=past)
        return logs[..., 0].float().clamp(_LEAST, _MOST).unflatten(1, (actions.shape[1], -1)), past

    @staticmethod
    def loss(logs: Tensor, error: Tensor) -> Tensor:
        """Negative log-likelihood of squared errors, but for constants.

        That of a normal distribution (Kendall and Gal, "What uncertainties do we need in Bayesian
        deep learning for computer vision?", NeurIPS 2017, section 3.1). It is least where the
        variance is the mean of the squared errors.

        Args:
            logs: from `forward` [B, T, N].
            error: mean over channels of squared errors [B, T, N].
        """
        return (error * (-logs).exp() + logs).mean()
