# SPDX-License-Identifier: Apache-2.0
"""Progress of a run in the terminal: a line for each step, and a line that is updated."""

from __future__ import annotations

import time

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text

from vjepa2_ros.evaluation.record import Progress, Record


class ProgressView:
    """A context manager; `update` prints the steps that are new and the line below them.

    Args:
        console: prints.
        goal_position: true goal [3] in metres, base frame, for the distance.
    """

    def __init__(self, console: Console, goal_position: np.ndarray) -> None:
        self._console = console
        self._goal_position = goal_position
        self._shown = 0
        self._started = time.monotonic()
        self._live = Live(Text(), console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> ProgressView:
        self._console.print(
            "[dim]  step   energy  predicted   distance   planning  capture→command   rate[/]"
        )
        # Without a terminal no line can be updated; only the steps are printed.
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live.is_started:
            self._live.stop()

    def update(self, record: Record, goal_id: str) -> None:
        """Show what is new."""
        steps = record.steps(goal_id)
        for index in range(self._shown, len(steps)):
            self._console.print(self._line(record, steps[: index + 1]))
        self._shown = len(steps)
        now = record.of_goal(goal_id)
        if self._live.is_started and now:
            elapsed = time.monotonic() - self._started
            distance = self._distance(record, now[-1].time)
            self._live.update(
                Text(f"  {elapsed:5.1f} s  {now[-1].state.lower()}  {distance * 100:.1f} cm to go")
            )

    def _line(self, record: Record, steps: list[Progress]) -> str:
        step = steps[-1]
        # The last decision, to stop, has no command; the first step no rate.
        latency = f"{step.command_latency * 1e3:.0f} ms" if step.command_latency else "–"
        rate = f"{(len(steps) - 1) / (step.time - steps[0].time):.2f} Hz" if steps[1:] else "–"
        return (
            f"  {step.step:4d}   {step.energy:.4f}   {step.predicted_energy:.4f}   "
            f"{self._distance(record, step.time) * 100:6.1f} cm   {step.plan_seconds:6.2f} s   "
            f"{latency:>12}   {rate:>11}"
        )

    def _distance(self, record: Record, moment: float) -> float:
        positions = list(record.positions)
        if not positions:
            return float("nan")
        _, position = min(positions[-200:], key=lambda entry: abs(entry[0] - moment))
        return float(np.linalg.norm(position - self._goal_position))
