# SPDX-License-Identifier: Apache-2.0
"""Camera, goal, and the distance of their latents patch by patch, as one image.

The third picture is the camera's, with the distance of each patch's latent to the goal's over it:
transparent where they agree, yellow where they differ most. Its scale is fixed over the time of a
goal by the caller, so that it fades as the goal comes near.
"""

from __future__ import annotations

import cv2
import numpy as np

PANEL = 256
"""Side of each of the three pictures in pixels."""
_TEXT = cv2.FONT_HERSHEY_SIMPLEX
LEAST_SCALE = 0.2
"""Below this the largest distance of a patch is no more than what images of one scene differ by."""
_STRONGEST = 0.85  # opacity of the largest distance


def patch_distances(latent: np.ndarray, goal: np.ndarray, rows: int) -> np.ndarray:
    """Mean absolute difference of each patch [rows, columns].

    Args:
        latent: [rows * columns, channels].
        goal: of the same shape.
        rows: of patches.
    """
    return np.abs(latent - goal).mean(axis=1).reshape(rows, -1)


def difference_image(
    camera: np.ndarray, goal: np.ndarray, distances: np.ndarray, scale: float
) -> np.ndarray:
    """Camera, goal and distances side by side.

    Args:
        camera: uint8 RGB square image, as the model sees it.
        goal: the same of the goal.
        distances: of the patches [rows, columns].
        scale: distance that is drawn strongest, at least `LEAST_SCALE`.

    Returns:
        uint8 RGB [PANEL, 3 * PANEL, 3].
    """
    seen, wanted = fitted(camera), fitted(goal)
    patches = np.clip(distances / max(scale, LEAST_SCALE), 0.0, 1.0).astype(np.float32)
    share = cv2.resize(patches, (PANEL, PANEL), interpolation=cv2.INTER_NEAREST)
    levels = np.round(255.0 * share).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    opacity = _STRONGEST * share[..., None]
    mixed = (seen * (1.0 - opacity) + colours * opacity).astype(np.uint8)
    panels = ((seen, "camera"), (wanted, "goal"), (mixed, f"distance {distances.mean():.3f}"))
    return np.hstack([_titled(image, title) for image, title in panels])


def fitted(image: np.ndarray) -> np.ndarray:
    """An image uint8 RGB [H, W, 3] as large as a panel, [PANEL, PANEL, 3]."""
    return cv2.resize(image, (PANEL, PANEL), interpolation=cv2.INTER_AREA)


def _titled(image: np.ndarray, title: str) -> np.ndarray:
    titled = np.ascontiguousarray(image)
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(titled, title, (6, PANEL - 8), _TEXT, 0.5, colour, thickness, cv2.LINE_AA)
    return titled
