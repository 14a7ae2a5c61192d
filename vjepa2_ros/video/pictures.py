# SPDX-License-Identifier: Apache-2.0
"""Pictures of what was seen in a video and how it is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vjepa2_ros.video.frames import Video

_SHOWN, _COLUMNS = 8, 4
_LONGEST = 60


def draw_scores(
    video: Video,
    indices: np.ndarray,
    scores: Mapping[str, Sequence[tuple[str, float]]],
    path: Path,
) -> None:
    """Write frames of the clips beside the most likely names.

    Args:
        video: that was seen.
        indices: of the frames of the clips [segments, frames], of which up to 8 are shown.
        scores: (name, score from 0 to 1) of each set of classes, the best first.
        path: of the PNG.

    Raises:
        VideoError: a frame cannot be read.
        OSError: the file cannot be written.
    """
    numbers = np.unique(indices)
    shown = numbers[np.linspace(0, len(numbers) - 1, min(_SHOWN, len(numbers))).astype(int)]
    rows = -(-len(shown) // _COLUMNS)
    figure = Figure(figsize=(14, max(2.2 * rows, 1.6 * len(scores))), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(3, 2))[0]
    for axes, index, frame in zip(
        left.subplots(rows, _COLUMNS, squeeze=False).flat, shown, video.read(shown), strict=False
    ):
        axes.imshow(frame)
        axes.set_title(f"frame {index}", fontsize=9)
    for axes in left.axes:
        axes.axis("off")
    for axes, (kind, best) in zip(
        right.subplots(len(scores), 1, squeeze=False).flat, scores.items(), strict=True
    ):
        places = np.arange(len(best))[::-1]
        axes.barh(places, [score for _, score in best], color="tab:blue", alpha=0.5)
        for place, (name, score) in zip(places, best, strict=True):
            text = name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
            # Names come from files: a dollar sign must not start a formula.
            axes.text(0.01, place, f"{score * 100:.1f} %  {text}", va="center", fontsize=9,
                      parse_math=False)  # fmt: skip
        axes.set_xlim(0, 1)
        axes.set_title(kind, fontsize=10)
        axes.set_yticks([])
        axes.set_xticks([])
    figure.savefig(path, dpi=100)
