# SPDX-License-Identifier: Apache-2.0
"""Progress of a run in the terminal: a line for each step, and a line that is updated."""

from __future__ import annotations

import time

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text

from vjepa2_ros.evaluation.record import Progress, Record
from vjepa2_ros.tasks.task import Episode

_LATEST = 200
"""Truths that the one nearest to a moment is looked for among: 4 s of them."""


class ProgressView:
    """A context manager; `update` prints the steps that are new and the line below them.

    Args:
        console: prints.
        episode: names the sub-goals, and says where each shows the hand.
    """

    def __init__(self, console: Console, episode: Episode) -> None:
        self._console = console
        self._subgoals = episode.subgoals
        self._shown = 0
        self._subgoal: int | None = None
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
            if steps[index].subgoal != self._subgoal:
                self._subgoal = steps[index].subgoal
                self._console.print(self._named(self._subgoal), style="bold", markup=False)
            self._console.print(self._line(record, steps[: index + 1]))
        self._shown = len(steps)
        now = record.of_goal(goal_id)
        if self._live.is_started and now:
            elapsed = time.monotonic() - self._started
            distance = self._distance(record, now[-1])
            self._live.update(
                Text(
                    f"  {elapsed:5.1f} s  {now[-1].state.lower()}  "
                    f"{self._named(now[-1].subgoal)}  {distance * 100:.1f} cm to go"
                )
            )

    def _named(self, subgoal: int) -> str:
        return f"{self._subgoals[subgoal].name} ({subgoal + 1} of {len(self._subgoals)})"

    def _line(self, record: Record, steps: list[Progress]) -> str:
        step = steps[-1]
        # The last decision, to stop, has no command; the first step no rate.
        latency = f"{step.command_latency * 1e3:.0f} ms" if step.command_latency else "–"
        rate = f"{(len(steps) - 1) / (step.time - steps[0].time):.2f} Hz" if steps[1:] else "–"
        return (
            f"  {step.step:4d}   {step.energy:.4f}   {step.predicted_energy:.4f}   "
            f"{self._distance(record, step) * 100:6.1f} cm   {step.plan_seconds:6.2f} s   "
            f"{latency:>12}   {rate:>11}"
        )

    def _distance(self, record: Record, status: Progress) -> float:
        """Distance of the hand to its place in the picture of the sub-goal, at a status [m]."""
        truths = list(record.truths)
        if not truths:
            return float("nan")
        truth = min(truths[-_LATEST:], key=lambda truth: abs(truth.time - status.time))
        return float(np.linalg.norm(truth.hand - self._subgoals[status.subgoal].hand))
