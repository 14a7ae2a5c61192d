# SPDX-License-Identifier: Apache-2.0
"""From a video to what an encoder and a probe make of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vjepa2_ros.video.clip_encoder import ClipEncoder
from vjepa2_ros.video.frames import Video
from vjepa2_ros.video.preprocessing import preprocess_video
from vjepa2_ros.video.sampling import clip_indices, segment_indices
from vjepa2_ros.world_model.attentive_probe import AttentiveProbe


@dataclass(frozen=True)
class Clips:
    """Which clips of a video are encoded.

    Attributes:
        frames: of each clip.
        step: from one frame to the next.
        segments: clips spread over the video, see `sampling.segment_indices`; 0: one clip from the
            first frame on, for which the video has to be long enough.
        views: squares of each clip, see `preprocessing.preprocess_video`.
        resize: see `preprocessing.RESIZES`.
        seed: draws where in its part of the video a clip lies; None: at its start.
    """

    frames: int = 16
    step: int = 4
    segments: int = 0
    views: int = 1
    resize: str = "opencv"
    seed: int | None = None

    def indices(self, length: int) -> np.ndarray:
        """Frames int64 [segments, frames] of a video of a length; ClipError if it is too short."""
        if not self.segments:
            return clip_indices(length, self.frames, self.step)
        random = None if self.seed is None else np.random.RandomState(self.seed)
        return segment_indices(length, self.frames, self.step, self.segments, random)


def encode(encoder: ClipEncoder, video: Video, clips: Clips) -> Iterator[Tensor]:
    """Encode the clips of a video, one view after the other.

    Args:
        encoder: of the clips.
        video: that they are taken from.
        clips: which ones.

    Yields:
        Tokens [segments, N, D] float32 of each view.

    Raises:
        ClipError: the video is too short.
        VideoError: a frame cannot be read.
        ValueError: an option of `clips` is unknown.
    """
    indices = clips.indices(video.length)
    # Once for all clips: a video is decoded from its beginning.
    frames = video.read(indices.reshape(-1))
    views = preprocess_video(frames, encoder.encoder.size, clips.resize, clips.views)
    for view in views.unflatten(1, indices.shape):
        # One by one: the tokens of several clips of 64 frames fill the memory of a small GPU.
        yield torch.cat([encoder.tokens(clip[None]) for clip in view])


def embedding(tokens: Tensor) -> Tensor:
    """The mean [D] of tokens [..., D]: V-JEPA 2 has no token for the whole clip."""
    return tokens.flatten(0, -2).mean(dim=0)


@torch.no_grad()
def classify(
    encoder: ClipEncoder, probe: AttentiveProbe, video: Video, clips: Clips
) -> dict[str, Tensor]:
    """Probabilities of the classes, as in the published evaluation.

    The probe sees the tokens of all segments of a view at once; the probabilities are a mean over
    the views.

    Args:
        encoder: of the clips.
        probe: for tokens of that encoder, on its device.
        video: to classify.
        clips: of it; their number of segments and frames should be what the probe was trained with.

    Returns:
        Probabilities [classes] of each set.

    Raises:
        ValueError: the probe is for another encoder; else as `encode`.
    """
    check_fit(encoder, probe)
    views = [
        {name: logits[0].softmax(0) for name, logits in probe(tokens.flatten(0, 1)[None]).items()}
        for tokens in encode(encoder, video, clips)
    ]
    return {name: torch.stack([view[name] for view in views]).mean(dim=0) for name in probe.classes}


def most_likely(scores: Tensor, names: Sequence[str], count: int) -> list[tuple[str, float]]:
    """Names of the classes of the highest scores [classes], at most `count`, the best first."""
    best = scores.topk(min(count, len(names)))
    return [
        (names[number], score)
        for score, number in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def check_fit(encoder: ClipEncoder, probe: AttentiveProbe) -> None:
    """ValueError if a probe is for tokens of another width."""
    if probe.width != encoder.encoder.channels:
        raise ValueError(
            f"the probe is for an encoder of {probe.width} channels, {encoder.source} has "
            f"{encoder.encoder.channels}"
        )
