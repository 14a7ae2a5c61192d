# SPDX-License-Identifier: Apache-2.0
"""The attentive probe of the published evaluations: tokens of clips in, scores of classes out.

`transformers` has its layers, but builds them with the encoder's number of attention heads and
LayerNorm eps. The published probes have 16 heads and eps 1e-5 whatever the encoder is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import VJEPA2Config
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2AttentivePooler

HEADS, LAYER_NORM_EPS, MLP_RATIO = 16, 1e-5, 4.0


class AttentiveProbe(nn.Module):
    """Self-attention blocks over all tokens, then one learned query for each set of classes.

    Args:
        width: channels of the tokens.
        blocks: self-attention blocks; the published probes have 3.
        classes: number of classes of each set, in the order of the queries.
        heads: of each attention.

    Attributes:
        width: as given.
        classes: as given.

    Raises:
        ValueError: the width is no multiple of the heads.
    """

    def __init__(
        self, width: int, blocks: int, classes: Mapping[str, int], heads: int = HEADS
    ) -> None:
        super().__init__()
        options: dict[str, Any] = {
            "hidden_size": width,
            "num_attention_heads": heads,
            "mlp_ratio": MLP_RATIO,
            "layer_norm_eps": LAYER_NORM_EPS,
            "num_pooler_layers": blocks,
            "attn_implementation": "sdpa",
        }
        config = VJEPA2Config(**options)
        self.width = width
        self.pooler = VJEPA2AttentivePooler(config)
        self.pooler.query_tokens = nn.Parameter(torch.zeros(1, len(classes), width))
        self.classes = dict(classes)
        self.classifiers = nn.ModuleDict(
            {name: nn.Linear(width, count) for name, count in classes.items()}
        )

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """Scores of the classes.

        Args:
            tokens: [B, N, D] of the encoder, after its final LayerNorm.

        Returns:
            Logits [B, classes] of each set.
        """
        pooled = self.pooler(tokens).view(len(tokens), len(self.classifiers), -1)
        return {
            name: classifier(pooled[:, number])
            for number, (name, classifier) in enumerate(self.classifiers.items())
        }
