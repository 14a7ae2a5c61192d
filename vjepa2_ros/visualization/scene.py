# SPDX-License-Identifier: Apache-2.0
"""The scene of a stack as coloured lines and dots in the base frame: one description for RViz,
Foxglove and the page in the browser.

Candidates are coloured by their energy, from dark (high) to yellow (low).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

ELITES = 10
"""Candidates of least energy that stand out."""
FRUSTUM_DEPTH = 0.15
"""Distance from the camera to the far end of its frustum [m]."""
_FINE, _MEDIUM, _THICK = 0.001, 0.002, 0.004  # [m]
_ELITE_DOT, _TARGET_DOT = 0.006, 0.014  # [m]
_FAINT = 0.35
_CHOSEN = (0.1, 0.9, 0.3, 1.0)
_DRIVEN = (1.0, 1.0, 1.0, 0.9)
_WORKSPACE = (0.4, 0.7, 1.0, 0.8)
_CAMERA = (1.0, 0.7, 0.2, 1.0)


@dataclass(frozen=True)
class Segments:
    """Straight lines.

    Attributes:
        name: what they show; a later shape of the same name replaces them.
        ends: float64 [E, 2, 3], base frame [m].
        colours: float64 [E, 4], red, green, blue and opacity from 0 to 1.
        width: of the lines [m].
    """

    name: str
    ends: np.ndarray
    colours: np.ndarray
    width: float


@dataclass(frozen=True)
class Dots:
    """Spheres.

    Attributes:
        name: see `Segments`.
        points: float64 [P, 3], base frame [m].
        colours: see `Segments`, [P, 4].
        diameter: [m].
    """

    name: str
    points: np.ndarray
    colours: np.ndarray
    diameter: float


Shape = Segments | Dots


@dataclass(frozen=True)
class PlannedStep:
    """What was looked at before one step: S candidates of H actions.

    Attributes:
        start: position of the tool [3], base frame [m].
        path: its planned positions [H, 3].
        candidates: its positions after each action [S, H, 3], in the order of the energies.
        energies: [S], ascending.
    """

    start: np.ndarray
    path: np.ndarray
    candidates: np.ndarray
    energies: np.ndarray


@dataclass(frozen=True)
class CameraView:
    """Where a camera is and what it sees.

    Attributes:
        position: [3], base frame [m].
        rotation: of its optical frame (x right, y down, z forward).
        matrix: K [3, 3] in pixels.
        width, height: of its images in pixels.
    """

    position: np.ndarray
    rotation: Rotation
    matrix: np.ndarray
    width: int
    height: int


def plan_shapes(step: PlannedStep) -> tuple[Shape, ...]:
    """Candidates, elites, the chosen path and its first target."""
    elites = step.candidates[:ELITES]
    colours = energy_colours(step.energies)
    path = np.concatenate([step.start[None], step.path])
    return (
        Segments("candidates", *_paths(step.start, step.candidates, colours, _FAINT), _FINE),
        Segments("elites", *_paths(step.start, elites, colours[:ELITES], 1.0), _MEDIUM),
        Dots("elite_ends", elites[:, -1], colours[:ELITES], _ELITE_DOT),
        Segments("chosen", _joined(path), _all(_CHOSEN, len(step.path)), _THICK),
        Dots("target", step.path[:1], _all(_CHOSEN, 1), _TARGET_DOT),
    )


def path_shape(positions: np.ndarray) -> Segments:
    """The path that the tool has been driven along, of positions [T, 3]."""
    ends = _joined(positions)
    return Segments("driven", ends, _all(_DRIVEN, len(ends)), _MEDIUM)


def workspace_shape(lower: np.ndarray, upper: np.ndarray) -> Segments:
    """The edges of the box that no target leaves, of its corners [3]."""
    corners = np.array(
        [[(lower, upper)[i >> axis & 1][axis] for axis in range(3)] for i in range(8)]
    )
    edges = [(i, i | 1 << axis) for i in range(8) for axis in range(3) if not i >> axis & 1]
    return Segments("workspace", corners[np.array(edges)], _all(_WORKSPACE, 12), _MEDIUM)


def camera_shape(view: CameraView) -> Segments:
    """The frustum of a camera: four rays through the corners of its image, and a rectangle."""
    pixels = np.array([[0, 0], [view.width, 0], [view.width, view.height], [0, view.height]])
    rays = np.linalg.solve(view.matrix, np.hstack([pixels, np.ones((4, 1))]).T).T
    corners = view.position + view.rotation.apply(rays * FRUSTUM_DEPTH)
    apex = np.broadcast_to(view.position, corners.shape)
    ends = np.concatenate(
        [np.stack([apex, corners], axis=1), np.stack([corners, np.roll(corners, -1, 0)], axis=1)]
    )
    return Segments("camera", ends, _all(_CAMERA, len(ends)), _MEDIUM)


def energy_colours(energies: np.ndarray) -> np.ndarray:
    """Colours [S, 4] of energies [S]: the least is the brightest, by rank.

    By rank, since a few candidates far off would give all others one colour.
    """
    count = len(energies)
    ranks = np.empty(count)
    ranks[np.argsort(energies, kind="stable")] = np.arange(count)
    levels = np.round(255.0 * (1.0 - ranks / max(1, count - 1))).astype(np.uint8)
    if not count:
        return np.zeros((0, 4))
    bgr = cv2.applyColorMap(levels[:, None], cv2.COLORMAP_VIRIDIS)[:, 0]
    return np.hstack([bgr[:, ::-1] / 255.0, np.ones((count, 1))])


def _paths(
    start: np.ndarray, candidates: np.ndarray, colours: np.ndarray, opacity: float
) -> tuple[np.ndarray, np.ndarray]:
    """Lines [S * H, 2, 3] from a start through candidates [S, H, 3], and their colours."""
    count, horizon, _ = candidates.shape
    begin = np.broadcast_to(start, (count, 1, 3))
    points = np.concatenate([begin, candidates], axis=1)
    ends = np.stack([points[:, :-1], points[:, 1:]], axis=2).reshape(-1, 2, 3)
    faded = colours * [1.0, 1.0, 1.0, opacity]
    return ends, np.repeat(faded, horizon, axis=0)


def _joined(positions: np.ndarray) -> np.ndarray:
    """Lines [T - 1, 2, 3] from each of T positions [T, 3] to the next."""
    return np.stack([positions[:-1], positions[1:]], axis=1)


def _all(colour: tuple[float, float, float, float], count: int) -> np.ndarray:
    return np.tile(colour, (count, 1))
