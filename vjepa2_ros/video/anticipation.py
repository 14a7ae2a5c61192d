# SPDX-License-Identifier: Apache-2.0
"""What happens next: the mask predictor imagines it, a probe of three queries names it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vjepa2_ros.video.clip_encoder import ClipEncoder
from vjepa2_ros.video.mask_predictor import MaskPredictor, anticipate
from vjepa2_ros.video.preprocessing import preprocess_video
from vjepa2_ros.world_model.attentive_probe import AttentiveProbe


@torch.no_grad()
def anticipate_actions(
    encoder: ClipEncoder,
    predictor: MaskPredictor,
    probe: AttentiveProbe,
    frames: np.ndarray,
    seconds: float,
    rate: float,
    resize: str = "opencv",
) -> dict[str, Tensor]:
    """Name the action a while after a clip, as in the published evaluation.

    Args:
        encoder: of the clip.
        predictor: of the same checkpoint.
        probe: for tokens of that encoder, on its device.
        frames: uint8 RGB [T, H, W, 3].
        seconds: from the end of the clip to what is imagined.
        rate: of the frames [frames/s].
        resize: see `preprocessing.RESIZES`.

    Returns:
        Scores [classes] of each set, from 0 to 1 and each for itself: the evaluation takes the
        sigmoid.

    Raises:
        ValueError: shape, dtype or resize are others, or there are fewer frames than a tubelet has.
    """
    network = encoder.encoder
    clip = preprocess_video(frames, network.size, resize)[0]
    tokens = encoder.tokens(clip[None])
    steps = torch.tensor([int(seconds * rate / network.config.tubelet_size)])
    next_tokens = anticipate(predictor, tokens, steps, network.rows * network.columns)
    scores = probe(torch.cat([tokens, next_tokens], dim=1))
    return {name: logits[0].sigmoid() for name, logits in scores.items()}
