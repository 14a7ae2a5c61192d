# SPDX-License-Identifier: Apache-2.0
"""The report of `bench gpu` as Markdown, also before anything was measured."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vjepa2_ros.benchmark.gpu import KINDS, Section
from vjepa2_ros.benchmark.gpu_measurements import SIZES, Row

HEADINGS = {
    "time_ms": "time [ms]",
    "time_each_ms": "each [ms]",
    "gflop_each": "GFLOP each",
    "tflops": "TFLOP/s",
    "share": "share of matrix rate",
    "peak_memory_gib": "peak memory [GiB]",
    "p50_ms": "p50 [ms]",
    "p99_ms": "p99 [ms]",
    "seconds": "time [s]",
}
"""Headings of the columns that are not the key with spaces."""
_FIRST, _LAST = ("what", "at_once"), ("note", "failed")
"""Columns that are not where their first row has them."""
_INTRODUCTION = """\
# Figures on a GPU

Written by `make bench-gpu` (`vjepa2-ros bench gpu`), which overwrites this file; see the
[options](reference/commands.md). Weights of the published size (ViT-g encoder, predictor of
24 × 1024) are random: time and memory do not depend on them. Evaluations are of one action, from
actions on the host to energies on the host.
"""
_LEGEND = """\
The matrix rate is that of large square products, measured in the same process. In float32 PyTorch
lets convolutions use TF32, as in the nodes. Compiled means that the transformer blocks are
compiled, captured that the whole computation is launched as one CUDA graph; the nodes run eagerly.
Synchronisations are counted with `torch.cuda.set_sync_debug_mode`; each copy between host and
device is one.
"""


def aims() -> str:
    """The aims on an H200, as one sentence."""
    size = SIZES["published"]
    times = ", ".join(f"{n:,} evaluations in {ms / 1e3:g} s" for n, ms in size.aims_ms.items())
    return (
        f"Aims on an H200: {size.aim_share:.0%} of the matrix rate; {times}; no synchronisation of "
        "the host\nbetween the actions and the energies of a round."
    )


def not_measured() -> str:
    """The report while nobody has run the command."""
    listed = "\n".join(f"- {kind.title}" for kind in KINDS)
    return "\n".join(
        [
            _INTRODUCTION,
            "**Not measured yet.** With a CUDA GPU:\n",
            "```sh",
            'make bench-gpu TORCH="torch==2.13.0 --index-url '
            'https://download.pytorch.org/whl/cu130"',
            "```\n",
            "It ends within ten minutes and fills in:\n",
            f"{listed}\n",
            aims(),
            "",
        ]
    )


def markdown(about: dict[str, Any], sections: Sequence[Section]) -> str:
    """The report of what was measured so far."""
    lines = [_INTRODUCTION]
    lines += ["| | |", "|---|---|"]
    lines += [f"| {name} | {_escape(str(value))} |" for name, value in about.items()]
    lines += ["", aims(), "", _LEGEND]
    for section in sections:
        lines += [f"## {section.title}", ""]
        if section.rows:
            lines += [*table(section.rows), ""]
        if section.error is not None:
            lines += [f"**Not measured to the end:** {_escape(section.error)}", ""]
        lines += [f"Took {section.seconds:.0f} s.", ""]
    return "\n".join(lines)


def table(rows: Sequence[Row]) -> list[str]:
    """Lines of a Markdown table with a column for each key that occurs."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    keys.sort(key=lambda key: (key in _LAST, key not in _FIRST))
    headings = [HEADINGS.get(key, "" if key == "what" else key.replace("_", " ")) for key in keys]
    lines = ["| " + " | ".join(headings) + " |"]
    lines += ["|" + "|".join("---" if key == "what" else "---:" for key in keys) + "|"]
    for row in rows:
        lines.append("| " + " | ".join(_shown(key, row.get(key)) for key in keys) + " |")
    return lines


def write(about: dict[str, Any], sections: Sequence[Section], path: Path) -> None:
    """Write the report, and make its folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(markdown(about, sections))


def _shown(key: str, value: Any) -> str:
    if value is None:
        return "–"
    if key == "share":
        return f"{value:.0%}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return _escape(str(value))


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
