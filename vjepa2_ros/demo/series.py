# SPDX-License-Identifier: Apache-2.0
"""Several demos in a row, for latencies and times that a single run is too short for."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from rich.console import Console

from vjepa2_ros.demo.report import quantiles
from vjepa2_ros.demo.run import DemoSettings, run_demo


def run_series(demos: Sequence[DemoSettings], console: Console, stop: threading.Event) -> dict:
    """Run some demos that differ in their seeds.

    Args:
        demos: settings of each.
        console: shows progress.
        stop: ends the series early.

    Returns:
        Medians of the runs, and latencies [ms] over all of them.

    Raises:
        DemoError, RosError, ClientError, ProcessGroupError, OSError: see `run_demo`.
    """
    runs = [run_demo(settings, console, stop) for settings in demos]
    stages = {
        name: quantiles([value for run in runs for value in run["samples_s"][name]])
        for name in runs[0]["samples_s"]
    }
    return {
        "overlap": demos[0].configuration.settings.planner.execution.overlap,
        "runs": len(runs),
        "reached": sum(run["success"] for run in runs),
        "start_distance_m_median": float(np.median([run["start_distance_m"] for run in runs])),
        "final_distance_m_median": float(np.median([run["final_distance_m"] for run in runs])),
        "seconds_median": float(np.median([run["seconds"] for run in runs])),
        "steps_median": float(np.median([run["steps"] for run in runs])),
        "latency_ms": stages,
    }
