# SPDX-License-Identifier: Apache-2.0
"""Which frames of a video make a clip, as in the published evaluations.

Something-Something v2 and Diving48 take several clips spread over the video (*segments*,
`segment_indices`), Epic-Kitchens-100 one clip that ends before the action (`anticipation_indices`),
the published demonstration every second frame from the first (`clip_indices`).
"""

from __future__ import annotations

import math

import numpy as np


class ClipError(ValueError):
    """A video has too few frames for a clip; the text says what to do."""


def clip_indices(length: int, frames: int, step: int) -> np.ndarray:
    """Every `step`-th frame from the first.

    Args:
        length: frames of the video.
        frames: of the clip.
        step: from one frame of the clip to the next.

    Returns:
        int64 [1, frames].

    Raises:
        ClipError: the video is shorter.
    """
    needed = (frames - 1) * step + 1
    if length < needed:
        raise ClipError(
            f"the video has {length} frames, a clip of {frames} frames at a step of {step} needs "
            f"{needed}: give fewer --frames, a smaller --step, or --segments, which repeat frames"
        )
    return np.arange(0, needed, step)[None]


def segment_indices(
    length: int,
    frames: int,
    step: int,
    segments: int,
    random: np.random.RandomState | None = None,
    overlap: bool = True,
) -> np.ndarray:
    """Clips of the parts of a video, as the published evaluation of labels takes them.

    Where a part is longer than a clip, the clip lies in it: its frames are spread evenly over
    `frames * step` frames, so that they are somewhat farther apart than `step`. Else the clips
    overlap or, without `overlap`, are cut short; the last frame but one is repeated until a clip is
    full. A video no longer than a clip gives equal clips.

    Args:
        length: frames of the video.
        frames: of each clip.
        step: from one frame of a clip to the next.
        segments: number of clips.
        random: draws where in its part a clip lies, as the evaluation does; None: at its start.
        overlap: whether clips may overlap.

    Returns:
        int64 [segments, frames].

    Raises:
        ClipError: the video has no frame for a part.
    """
    span, part = frames * step, length // segments
    if length < 2 or part < 1:
        raise ClipError(f"the video has {length} frames, which is too short for {segments} clips")
    if part > span:
        ends = [span if random is None else random.randint(span, part) for _ in range(segments)]
        return np.stack(
            [
                number * part
                + np.linspace(end - span, end, frames).clip(end - span, end - 1).astype(np.int64)
                for number, end in enumerate(ends)
            ]
        )
    last = min(span, length) - 1 if overlap else part
    taken = np.linspace(0, last, last // step)
    padded = np.concatenate([taken, np.full(frames - len(taken), last)])
    clip = padded.clip(0, last - 1).astype(np.int64)
    if not overlap:
        shift = part
    else:
        shift = (length - span) // (segments - 1) if length > span else 0
    return clip + shift * np.arange(segments)[:, None]


def step_of_rate(video_rate: float, rate: float) -> int:
    """Step at which a video is seen at about `rate` [frames/s]; at least 1."""
    return max(1, math.ceil(video_rate) // math.ceil(rate))


def anticipation_indices(
    end: float, video_rate: float, frames: int, rate: float = 8.0
) -> np.ndarray:
    """The clip that ends at a time, as the published evaluation of anticipation takes it.

    Its step is truncated: at 30 frames/s and a rate of 8 it is 3, which is 10 frames/s. What would
    lie before the video repeats its first frame.

    Args:
        end: frame after the last one of the clip, before the step.
        video_rate: of the video [frames/s].
        frames: of the clip.
        rate: at which the clip is seen [frames/s].

    Returns:
        int64 [1, frames].

    Raises:
        ClipError: the video is slower than the rate.
    """
    step = int(video_rate / rate)
    if step < 1:
        raise ClipError(
            f"the video has {video_rate:g} frames/s, fewer than the {rate:g} that the clip is seen "
            "at; give a lower one (--seen-rate)"
        )
    stop = int(end)
    return np.arange(stop - frames * step, stop, step).clip(min=0).astype(np.int64)[None]
