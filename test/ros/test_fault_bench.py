# SPDX-License-Identifier: Apache-2.0
"""How faults are measured and stops counted, on a stack that is only pretended."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from vjepa2_ros.faults import bench as bench_module
from vjepa2_ros.faults.bench import FaultBench, FaultBenchError, NotInjectedError
from vjepa2_ros.faults.fault import Fault
from vjepa2_ros.faults.observer import Observations
from vjepa2_ros.faults.soak import interrupt


class Observer:
    """Of an arm that rests; services give the answers in `answers`, one after the other."""

    def __init__(self, namespace=""):
        now = time.monotonic()
        self.seen = Observations(truth=[(now + 0.1 * i, np.zeros(3)) for i in range(100)])
        self.injected, self.requested, self.answers = set(), None, []

    def accepted(self):
        return "goal", 1

    def accepted_at(self, when):
        return "goal", 1

    def accepted_since(self, begin):
        return set()

    def rest(self, begin, last=True):
        return begin + 0.2, 0.05

    def call(self, name, request):
        self.requested = time.monotonic()
        return self.answers.pop(0)


class Stack:
    def __init__(self):
        self.ended, self.notes, self.stops = None, [], 0

    def note(self, name, line):
        self.notes.append(line)

    def check(self):
        pass

    def stop(self):
        self.stops += 1


DONE, REFUSED, SILENT = SimpleNamespace(success=True, message=""), SimpleNamespace(
    success=False, message="not now"
), None


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setattr(bench_module, "Observer", Observer)
    monkeypatch.setattr(bench_module, "_goal_pictures", list)
    for name in ("ensure", "begin_motion"):
        monkeypatch.setattr(FaultBench, name, lambda *_: None)
    monkeypatch.setattr(FaultBench, "_resume", lambda self: "by itself")
    return FaultBench(Stack())


FAULT = Fault(
    "gone", "", lambda bench: bench.switch("gone", True),
    end=lambda bench: bench.switch("gone", False), duration=0.1,
)  # fmt: skip


def test_a_fault_that_cannot_be_ended_is_an_outcome_and_not_measured_again(bench):
    bench.observer.answers = [DONE, SILENT]
    repeat = bench.measure(FAULT)
    assert (repeat.resumes, repeat.measured_again) == ("restart", 0)
    assert bench.stack.stops == 1 and "does not end gone" in bench.stack.notes[0]


def test_a_fault_that_could_not_begin_is_measured_again_and_that_is_counted(bench):
    bench.observer.answers = [REFUSED, DONE, DONE]
    repeat = bench.measure(FAULT)
    assert (repeat.resumes, repeat.measured_again) == ("by itself", 1)
    bench.observer.answers = [REFUSED, REFUSED]
    with pytest.raises(NotInjectedError, match="not now"):
        bench.measure(FAULT)


def test_a_cell_that_does_not_answer_the_injection_any_more_is_an_outcome(bench):
    bench.observer.answers = [SILENT, SILENT]
    assert bench.measure(FAULT).resumes == "restart"


def test_a_fault_of_the_cell_begins_when_it_is_asked_for(bench, monkeypatch):
    def call(name, request):
        bench.observer.requested = 5.0
        return DONE

    monkeypatch.setattr(bench.observer, "call", call)
    begins = []
    monkeypatch.setattr(bench, "_look_on", lambda fault, begun: begins.append(begun))
    bench.measure(FAULT)
    assert begins == [5.0]


class SoakBench:
    """Of an arm that comes to rest 0.1 s after it was asked to."""

    def __init__(self, stops=True, moves=True):
        self.done, self.stops, self.moves = [], stops, moves
        self.observer = SimpleNamespace(rest=lambda begin: (begin + 0.1, 0.02))

    def begin_motion(self):
        if not self.moves:
            raise FaultBenchError("the arm does not move")
        self.done.append("moves")

    def trigger(self, name):
        self.done.append(name)
        return self.stops

    def reset(self):
        self.done.append("reset")


def test_a_stop_counts_when_the_arm_was_in_motion_and_it_was_not_refused(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    bench = SoakBench()
    assert interrupt(bench, "stop") and bench.done == ["moves", "stop", "reset"]
    assert not interrupt(SoakBench(stops=False), "stop")
    with pytest.raises(FaultBenchError, match="does not move"):
        interrupt(SoakBench(moves=False), "stop")
