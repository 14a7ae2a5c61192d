# SPDX-License-Identifier: Apache-2.0
"""The energies that a planner searches, as an image of two slices through the present pose."""

from __future__ import annotations

import numpy as np


def landscape_image(
    xy: np.ndarray, xz: np.ndarray, reach: float, chosen: np.ndarray
) -> np.ndarray:
    """Two slices side by side, with the present pose and the chosen action marked.

    Args:
        xy: energies [P, P]; x changes from row to row, y within a row.
        xz: the same with z.
        reach: farthest motion on each axis [m].
        chosen: the chosen action [3] in metres.

    Returns:
        uint8 RGB [360, 800, 3].
    """
    # Half a second that only those wait for who ask for a landscape.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    side = 100 * reach
    # A sample is the middle of its cell.
    edge = side * len(xy) / (len(xy) - 1)
    extent = (-edge, edge, -edge, edge)
    steps = np.linspace(-side, side, len(xy))
    levels = {"vmin": min(xy.min(), xz.min()), "vmax": max(xy.max(), xz.max())}
    for axes, slice_, axis, name in zip(
        figure.subplots(1, 2), (xy, xz), (1, 2), "yz", strict=True
    ):
        image = axes.imshow(slice_.T, origin="lower", extent=extent, cmap="viridis_r", **levels)
        axes.contour(steps, steps, slice_.T, 8, colors="white", linewidths=0.4)
        axes.plot(0, 0, "+", color="black", label="present pose")
        axes.plot(100 * chosen[0], 100 * chosen[axis], "o", color="red", label="chosen action")
        axes.set(xlabel="x [cm]", ylabel=f"{name} [cm]")
    axes.legend(fontsize=8)
    figure.colorbar(image, ax=figure.axes, label="energy")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
