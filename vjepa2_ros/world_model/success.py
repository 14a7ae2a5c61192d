# SPDX-License-Identifier: Apache-2.0
"""Whether a sub-goal is reached: a probe that compares the present latent with the goal's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vjepa2_ros.world_model.attentive_probe import AttentiveProbe
from vjepa2_ros.world_model.validation import check_count

QUESTIONS = ("reached", "holding", "placed", "dropped")
"""What the probe answers, each by a probability of its own; see `training.success_training`."""
REACHED = QUESTIONS.index("reached")


class SuccessProbe(nn.Module):
    """An attentive probe over pairs of patches: one of the present image, one of the goal's.

    The two latents are of the same camera, so patches at the same place are joined; what is
    different is then told by one token, and the attention has only to weigh the places.

    Args:
        config: "width" of the latents, "hidden" width of the probe, "blocks" of self-attention and
            attention "heads".

    Attributes:
        config: as above.

    Raises:
        ValueError: the configuration cannot be used.
    """

    def __init__(self, config: dict) -> None:
        super().__init__()
        if set(config) != {"width", "hidden", "blocks", "heads"}:
            raise ValueError(f"no configuration of a success probe: {sorted(config)}")
        for name, value in config.items():
            check_count(name, value)
        self.config = dict(config)
        self.pair = nn.Linear(3 * config["width"], config["hidden"])
        classes = {question: 1 for question in QUESTIONS}
        self.probe = AttentiveProbe(config["hidden"], config["blocks"], classes, config["heads"])

    def forward(self, latents: Tensor, goals: Tensor) -> Tensor:
        """Logits of the answers.

        Args:
            latents: of present images [B, N, D].
            goals: of goal images [B, N, D].

        Returns:
            [B, 4], in the order of `QUESTIONS`.
        """
        pairs = torch.cat([latents, goals, latents - goals], dim=-1)
        answers = self.probe(self.pair(pairs))
        return torch.cat([answers[question] for question in QUESTIONS], dim=-1).float()

    @torch.no_grad()
    def probabilities(self, latent: Tensor, goal: Tensor) -> dict[str, float]:
        """Probability of each answer for one latent [N, D] and one goal [N, D]."""
        logits = self(latent.unsqueeze(0), goal.unsqueeze(0))[0]
        return dict(zip(QUESTIONS, logits.sigmoid().tolist(), strict=True))
