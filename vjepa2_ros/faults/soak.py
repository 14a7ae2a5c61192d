# SPDX-License-Identifier: Apache-2.0
"""A long run with goals replaced, cancelled and faulted: what the processes use, and every stop."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vjepa2_ros.faults.bench import FaultBench, FaultBenchError
from vjepa2_ros.faults.catalogue import far

STOPS_AFTER = 1.0
"""Longest time from a stop to rest [s]."""
_SAMPLE = 10.0
# Time between two events, on average [s].
_BETWEEN = 12.0
# Bad commands that are sent until one latches a fault, and the time for that [s].
_BAD_COMMANDS, _JUDGED = 10, 0.1
# Longest time without a command of the planner [s].
_SILENCE = 60.0


@dataclass(frozen=True)
class Sample:
    """What one process used at one moment.

    Attributes:
        seconds: since the beginning.
        replans: commands that were planned so far.
        node: name of the node.
        memory: resident [MiB].
        threads, handles: open threads and file descriptors.
    """

    seconds: float
    replans: int
    node: str
    memory: float
    threads: int
    handles: int


@dataclass
class Soak:
    """Outcome of a run.

    Attributes:
        replans: commands that were planned.
        seconds: duration.
        events: how often each thing was done.
        missed: how often a stop was refused, or the arm was not at rest in time after it, by event.
        samples: in the order of time.
    """

    replans: int = 0
    seconds: float = 0.0
    events: dict[str, int] = field(default_factory=dict)
    missed: dict[str, int] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)

    @property
    def missed_stops(self) -> int:
        """Number of all stops that were missed."""
        return sum(self.missed.values())

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def growth(self) -> dict[str, dict[str, float]]:
        """By node: memory, threads and handles gained from the second to the last tenth."""
        found = {}
        for node in sorted({sample.node for sample in self.samples}):
            rows = [sample for sample in self.samples if sample.node == node]
            tenth = max(1, len(rows) // 10)
            early, late = rows[tenth : 2 * tenth] or rows[:1], rows[-tenth:]
            found[node] = {
                name: float(
                    np.median([getattr(row, name) for row in late])
                    - np.median([getattr(row, name) for row in early])
                )
                for name in ("memory", "threads", "handles")
            }
        return found


def usage(process: int) -> tuple[float, int, int]:
    """Resident memory [MiB], threads and file descriptors of a process.

    Raises:
        OSError: it has ended.
    """
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines()
    )
    handles = len(list(Path(f"/proc/{process}/fd").iterdir()))
    return int(status["VmRSS"].split()[0]) / 1024, int(status["Threads"]), handles


def soak(
    bench: FaultBench, kind: str, replans: int, seed: int, show: Callable[[Soak], None]
) -> Soak:
    """Run until a number of commands has been planned.

    Args:
        bench: of the stack.
        kind: of the stack.
        replans: commands to be planned.
        seed: of the events.
        show: called now and then.

    Raises:
        FaultBenchError: the stack ended, or does not move any more.
    """
    chance = random.Random(seed)
    outcome = Soak()
    bench.ensure(kind)
    begun = sampled = time.monotonic()
    due, heard, first = begun, begun, bench.observer.planned
    # A planner that has just come up may refuse its first goal.
    bench.begin_motion()
    while outcome.replans < replans:
        time.sleep(0.2)
        now = time.monotonic()
        bench.stack.check()
        if bench.stack.ended is not None:
            raise FaultBenchError(bench.stack.ended[1])
        if bench.observer.planned - first > outcome.replans:
            heard = now
        elif now - heard > _SILENCE:
            raise FaultBenchError(f"no command for {_SILENCE:.0f} s")
        outcome.replans, outcome.seconds = bench.observer.planned - first, now - begun
        if bench.is_over():
            bench.set_goal(check=False)
        if now > sampled + _SAMPLE or not outcome.samples:
            sampled = now
            outcome.samples += [
                Sample(outcome.seconds, outcome.replans, node, *usage(process))
                for node, process in bench.stack.processes().items()
            ]
            bench.observer.trim()
            show(outcome)
        if now > due:
            due = now + chance.expovariate(1.0 / _BETWEEN)
            name = chance.choice(("replace", "cancel", "stop", "fault", "state_frozen"))
            outcome.events[name] = outcome.events.get(name, 0) + 1
            if not interrupt(bench, name):
                outcome.missed[name] = outcome.missed.get(name, 0) + 1
    return outcome


def interrupt(bench: FaultBench, name: str) -> bool:
    """Do something to the goal.

    Args:
        bench: of the stack.
        name: replace, cancel, stop, fault or state_frozen.

    Returns:
        False if the arm, which was in motion, had to come to rest and did not, or if the stop was
        refused.

    Raises:
        FaultBenchError: the arm does not move, or the cell refuses the fault.
    """
    if name == "replace":
        bench.set_goal(check=False)
        return True
    if name == "cancel":
        # The step in execution may end.
        bench.trigger("cancel")
        return True
    # The stop of an arm at rest would show nothing.
    bench.begin_motion()
    began, done = time.monotonic(), True
    if name == "stop":
        done = bench.trigger("stop")
    elif name == "fault":
        began, done = latch(bench)
    else:
        bench.switch("state_frozen", True)
    time.sleep(STOPS_AFTER + 0.5)
    rest, _ = bench.observer.rest(began)
    if name == "state_frozen":
        bench.switch("state_frozen", False)
    bench.reset()
    return done and rest is not None and rest - began < STOPS_AFTER


def latch(bench: FaultBench) -> tuple[float, bool]:
    """Send a bad command until it latches a fault.

    With `overlap` it may come within the time between two commands, or with a goal that has just
    ended. Then it is dropped for that, as it should be, and nothing has to stop.

    Returns:
        When the last one was sent [s, steady], and whether it latched a fault.
    """
    for _ in range(_BAD_COMMANDS):
        command = copy.deepcopy(bench.observer.last_command())
        far(command)
        sent = time.monotonic()
        bench.observer.publish_command(command)
        while time.monotonic() < sent + _JUDGED:
            if bench.observer.seen.states[-1][1].fault_reason:
                return sent, True
            time.sleep(0.01)
    return sent, False
