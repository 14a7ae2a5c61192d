# SPDX-License-Identifier: Apache-2.0
"""The mask predictor of V-JEPA 2: from the tokens of a clip to those at other positions.

It was trained to fill in what is masked; positions after the clip are what happens next.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import VJEPA2Config
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2Predictor

from vjepa2_ros.world_model.published import transformers_names

MASK_TOKEN = 1
"""The mask token that the published evaluations use."""


class MaskPredictor(nn.Module):
    """`VJEPA2Predictor` with a choice of the mask token.

    Args:
        config: of `transformers`; its `pred_*` fields and the grid count.
    """

    def __init__(self, config: VJEPA2Config) -> None:
        super().__init__()
        self.predictor = VJEPA2Predictor(config)

    def forward(
        self, tokens: Tensor, context: Tensor, target: Tensor, mask_token: int = MASK_TOKEN
    ) -> Tensor:
        """Predict the tokens at other positions.

        Args:
            tokens: [B, K, D] at `context`.
            context: positions int64 [B, K]; a position counts patches row by row, tubelet by
                tubelet.
            target: positions int64 [B, M] to predict.
            mask_token: index of the mask token, modulo their number.

        Returns:
            [B, M, D], in the order of `target`.
        """
        network = self.predictor
        hidden, positions = network.embeddings(tokens, [context], [target], mask_token)
        order = positions.argsort(dim=1)
        hidden, positions = network.sort_tokens(hidden, positions, order)
        for layer in network.layer:
            hidden = layer(hidden, positions)[0]
        hidden = network.unsort_tokens(network.layernorm(hidden), order)
        return network.proj(hidden[:, tokens.shape[1] :])


def anticipate(
    predictor: MaskPredictor,
    tokens: Tensor,
    steps: Tensor,
    patches: int,
    output_tubelets: int = 1,
    rounds: int = 1,
) -> Tensor:
    """Predict the tokens of tubelets after a clip, as the published evaluation does.

    Args:
        predictor: of the encoder that the tokens are of.
        tokens: of the clip [B, N, D].
        steps: tubelets between the end of the clip and the first predicted one, int64 [B].
        patches: of a tubelet.
        output_tubelets: that are predicted in each round.
        rounds: in each further one the predicted tokens replace the oldest ones of the clip; the
            positions stay.

    Returns:
        [B, rounds * output_tubelets * patches, D].
    """
    count = tokens.shape[1]
    context = torch.arange(count, device=tokens.device).expand(len(tokens), -1)
    new = torch.arange(output_tubelets * patches, device=tokens.device)
    target = count + patches * steps.to(tokens.device)[:, None] + new
    predicted = []
    for _ in range(rounds):
        predicted.append(predictor(tokens, context, target))
        tokens = torch.cat([tokens[:, len(new) :], predicted[-1]], dim=1)
    return torch.cat(predicted, dim=1)


def mask_predictor_state(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published weights of a mask predictor under the names of `MaskPredictor`."""
    masks = sorted(
        (int(found[1]), weight)
        for name, weight in weights.items()
        if (found := re.fullmatch(r"mask_tokens\.(\d{1,3})", name))
    )
    renamed = {"predictor.embeddings.mask_tokens": torch.stack([weight for _, weight in masks])}
    for name, weight in weights.items():
        if name.startswith("mask_tokens."):
            continue
        name = re.sub(r"^predictor_embed\.", "embeddings.predictor_embeddings.", name)
        name = re.sub(r"^predictor_norm\.", "layernorm.", name)
        name = re.sub(r"^predictor_proj\.", "proj.", name)
        name = re.sub(r"^predictor_blocks\.", "blocks.", name)
        names = [n.removeprefix("encoder.") for n in transformers_names(name)]
        for part, piece in zip(names, weight.chunk(len(names)), strict=True):
            renamed[f"predictor.{part}"] = piece
    return renamed
