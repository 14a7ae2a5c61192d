# SPDX-License-Identifier: Apache-2.0
"""When an arm came to rest, and how far it went, from its true positions over time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

STILL_SPEED = 0.01
"""Speed below which the arm is at rest [m/s]."""
WINDOW = 0.1
"""Time over which the speed is measured [s]."""


def speeds(times: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Speed [T] in m/s at each time, over the `WINDOW` that ends there.

    Args:
        times: [T] in seconds, rising.
        positions: [T, 3] in metres.
    """
    first = np.searchsorted(times, times - WINDOW)
    first = np.minimum(first, np.maximum(np.arange(len(times)) - 1, 0))
    way = np.linalg.norm(positions - positions[first], axis=1)
    return way / np.maximum(times - times[first], 1e-3)


def rest(
    times: Sequence[float], positions: Sequence[np.ndarray], since: float, for_good: bool = True
) -> tuple[float | None, float | None]:
    """When the arm came to rest, and how far it went until then.

    Args:
        times: of the positions [s], rising.
        positions: each [3] in metres.
        since: when the fault began [s].
        for_good: whether it must not move again; otherwise the first rest counts.

    Returns:
        Time of rest [s], None if it still moved at the end; and the largest distance [m] from where
        it was at `since`. Both None, for not known, if the positions end within `WINDOW` of it.
    """
    t, p = np.asarray(times, float), np.asarray(positions, float).reshape(-1, 3)
    after = t >= since
    if not len(t) or t[-1] < since + WINDOW:
        return None, None
    here = p[after][0] if not (~after).any() else p[~after][-1]
    way = np.where(after, np.linalg.norm(p - here, axis=1), 0.0)
    moving = after & (speeds(t, p) > STILL_SPEED)
    if not for_good and (still := np.flatnonzero(after & ~moving)).size:
        moving[still[0] :] = False
        way[still[0] :] = 0.0
    if not moving.any():
        return since, float(way.max())
    last = int(np.flatnonzero(moving)[-1])
    if last == len(t) - 1:
        return None, float(way.max())
    # The speed at a time is that of the window before it.
    return float(max(t[last + 1] - WINDOW, since)), float(way.max())
