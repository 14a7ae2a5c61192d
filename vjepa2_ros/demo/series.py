# SPDX-License-Identifier: Apache-2.0
"""Several demos in a row, for latencies and times that a single run is too short for."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from vjepa2_ros.demo.report import quantiles
from vjepa2_ros.demo.run import DemoSettings, run_demo

TIMEOUT = 120.0


def run_series(
    seeds: Sequence[int], overlap: bool, folder: Path, console: Console, stop: threading.Event
) -> dict:
    """Run the demo of each seed into a folder of its own; latencies [ms] are of all runs.

    overlap: plan on while the robot moves. Raises what `run_demo` raises.
    """
    runs = []
    for seed in seeds:
        settings = DemoSettings(seed, folder / f"seed-{seed}", None, {}, None, overlap, TIMEOUT)
        runs.append(run_demo(settings, console, stop))
    stages = {
        name: quantiles([value for run in runs for value in run["samples_s"][name]])
        for name in runs[0]["samples_s"]
    }
    return {
        "overlap": overlap,
        "runs": len(runs),
        "reached": sum(run["reached"] for run in runs),
        "start_distance_m_median": float(np.median([run["start_distance_m"] for run in runs])),
        "final_distance_m_median": float(np.median([run["final_distance_m"] for run in runs])),
        "seconds_median": float(np.median([run["seconds"] for run in runs])),
        "steps_median": float(np.median([run["steps"] for run in runs])),
        "latency_ms": stages,
    }
