# SPDX-License-Identifier: Apache-2.0
"""The newest images of a stream as a clip of its own frame rate."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Image = TypeVar("Image")

# A camera of exactly the clip's rate must not be thinned by its jitter.
_SLACK = 0.25
# A pause of the stream longer than so many periods ends a clip: what follows is another scene.
_PAUSE = 3.0


class ClipBuffer(Generic[Image]):
    """Keeps as many images as a clip has frames.

    Args:
        frames: of a clip.
        rate: of the frames [Hz]; images that come sooner are left out.

    Attributes:
        restarts: how often the images so far were given up, because the stamps went back or the
            stream paused.
    """

    def __init__(self, frames: int, rate: float) -> None:
        self._period = 1.0 / rate
        self._kept: deque[tuple[float, Image]] = deque(maxlen=frames)
        self._due = 0.0
        self.restarts = 0

    def add(self, stamp: float, image: Image) -> bool:
        """Keep an image, if it is due.

        Args:
            stamp: of its capture [s].
            image: of any kind.

        Returns:
            Whether it was kept.
        """
        if self._kept:
            passed = stamp - self._kept[-1][0]
            if passed < 0.0 or passed > _PAUSE * self._period:
                self.clear()
                self.restarts += 1
            elif stamp < self._due - _SLACK * self._period:
                return False
        # From one due time to the next, so that the rate is met on average.
        self._due = max(self._due, stamp - _SLACK * self._period) + self._period
        self._kept.append((stamp, image))
        return True

    def clip(self) -> list[tuple[float, Image]] | None:
        """Stamps and images of the newest clip, the oldest first; None until there is one."""
        return list(self._kept) if len(self._kept) == self._kept.maxlen else None

    def clear(self) -> None:
        """Give up all images."""
        self._kept.clear()
        self._due = 0.0
