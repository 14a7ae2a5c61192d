# SPDX-License-Identifier: Apache-2.0
"""Memory, threads and handles of every process over the commands of a long run."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from vjepa2_ros.faults.soak import Soak


def draw(outcome: Soak, path: Path) -> None:
    """Write the curves as a PNG."""
    figure = Figure(figsize=(9, 7), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True)
    labels = {"memory": "resident [MiB]", "threads": "threads", "handles": "file descriptors"}
    for node in sorted({sample.node for sample in outcome.samples}):
        rows = [sample for sample in outcome.samples if sample.node == node]
        replans = [row.replans for row in rows]
        for axis, name in zip(axes, labels, strict=True):
            axis.plot(replans, [getattr(row, name) for row in rows], label=node)
    for axis, label in zip(axes, labels.values(), strict=True):
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].legend(ncols=3, fontsize="small")
    axes[-1].set_xlabel("commands planned")
    figure.savefig(path, dpi=110)
