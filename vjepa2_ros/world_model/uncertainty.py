# SPDX-License-Identifier: Apache-2.0
"""How far a prediction may be from what follows: an expected squared error for each patch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vjepa2_ros.world_model.validation import check_count

_LEAST, _MOST = -9.0, 2.0
"""Bounds of the logarithm; layer-normed latents differ by 4 at most in the mean square."""
_START = -4.0


class PatchUncertainty(nn.Module):
    """Reads the variance of a patch off its prediction.

    A predictor that is trained on squared differences gives the mean of what may follow. If an
    object falls in four cases of ten, the energy of the mean is less than the mean of the energies,
    by the variance.

    Args:
        config: "channels" of a latent, "hidden" width.

    Attributes:
        config: as above.

    Raises:
        ValueError: the configuration cannot be used.
    """

    def __init__(self, config: dict) -> None:
        super().__init__()
        unknown = set(config) ^ {"channels", "hidden"}
        if unknown:
            raise ValueError(f"missing or unknown: {', '.join(sorted(unknown))}")
        for name, value in config.items():
            check_count(name, value)
        self.config = dict(config)
        self.fc1 = nn.Linear(config["channels"], config["hidden"])
        self.fc2 = nn.Linear(config["hidden"], 1)
        with torch.no_grad():
            self.fc2.weight.mul_(0.1)
            self.fc2.bias.fill_(_START)

    def forward(self, prediction: Tensor) -> Tensor:
        """Expected squared error [..., N] float32 of predictions, a mean over channels.

        Args:
            prediction: of the predictor [..., N, D], not layer-normed: its mean and its length
                are free to tell.
        """
        return self._log(prediction).exp()

    def loss(self, prediction: Tensor, error: Tensor) -> Tensor:
        """Negative log-likelihood of squared errors [..., N], whose gradient they do not get.

        It is that of a normal distribution but for constants (Kendall and Gal, "What uncertainties
        do we need in Bayesian deep learning for computer vision?", NeurIPS 2017, section 3.1), and
        least where the variance is the mean of the squared errors.
        """
        log = self._log(prediction)
        return (error.detach() * (-log).exp() + log).mean()

    def _log(self, prediction: Tensor) -> Tensor:
        hidden = nn.functional.gelu(self.fc1(prediction))
        return self.fc2(hidden)[..., 0].float().clamp(_LEAST, _MOST)
