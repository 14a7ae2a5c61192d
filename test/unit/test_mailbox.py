# SPDX-License-Identifier: Apache-2.0
"""The worker behind the depth-one mailbox, without ROS."""

import threading
import weakref

import pytest

from vjepa2_ros.ros.mailbox import LatestWorker

DEADLINE = 180.0


class Recorder:
    """A worker whose work waits for `gate`, and a record of what came out of it."""

    def __init__(self):
        self.started = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.finished = threading.Semaphore(0)
        self.results, self.errors, self.threads = [], [], set()
        self.worker = LatestWorker(self._process, self._on_result, self._on_error)

    def _process(self, item):
        self.threads.add(threading.get_ident())
        self.started.release()
        assert self.gate.acquire(timeout=DEADLINE)
        if isinstance(item, Exception):
            raise item
        return item * 10

    def _on_result(self, result):
        self.results.append(result)
        self.finished.release()

    def _on_error(self, error):
        self.errors.append(error)
        self.finished.release()


@pytest.fixture
def recorder():
    recorder = Recorder()
    yield recorder
    for _ in range(10):
        recorder.gate.release()
    assert recorder.worker.close(DEADLINE)


def test_only_the_newest_of_the_items_that_waited_is_processed(recorder):
    recorder.worker.offer(1)
    assert recorder.started.acquire(timeout=DEADLINE)
    for item in (2, 3, 4):
        recorder.worker.offer(item)
    for _ in range(2):
        recorder.gate.release()
        assert recorder.finished.acquire(timeout=DEADLINE)
    assert recorder.results == [10, 40]
    assert recorder.worker.dropped == 2


def test_work_runs_in_a_thread_of_its_own(recorder):
    recorder.gate.release()
    recorder.worker.offer(1)
    assert recorder.finished.acquire(timeout=DEADLINE)
    assert threading.get_ident() not in recorder.threads


def test_an_exception_is_reported_and_the_next_item_is_processed(recorder):
    for item in (ValueError("bad frame"), 7):
        recorder.gate.release()
        recorder.worker.offer(item)
        assert recorder.finished.acquire(timeout=DEADLINE)
    assert [str(error) for error in recorder.errors] == ["bad frame"]
    assert recorder.results == [70]


def test_jobs_are_never_dropped_and_go_before_the_waiting_item(recorder):
    recorder.worker.offer(1)
    assert recorder.started.acquire(timeout=DEADLINE)
    recorder.worker.offer(2)
    order = []
    jobs = [
        recorder.worker.call(lambda n=n: order.append((n, len(recorder.results)))) for n in (1, 2)
    ]
    recorder.gate.release()
    for job in jobs:
        job.result(timeout=DEADLINE)
    recorder.gate.release()
    assert recorder.finished.acquire(timeout=DEADLINE)
    assert order == [(1, 1), (2, 1)]


def test_a_failed_job_hands_its_exception_to_who_waits(recorder):
    with pytest.raises(ZeroDivisionError):
        recorder.worker.call(lambda: 1 / 0).result(timeout=DEADLINE)


def test_a_discarded_item_is_not_processed(recorder):
    recorder.worker.offer(1)
    assert recorder.started.acquire(timeout=DEADLINE)
    recorder.worker.offer(2)
    recorder.worker.discard()
    recorder.gate.release()
    recorder.worker.call(lambda: None).result(timeout=DEADLINE)
    assert recorder.results == [10]


def test_a_closed_worker_refuses_jobs_and_ignores_items(recorder):
    assert recorder.worker.close(DEADLINE)
    recorder.worker.offer(1)
    with pytest.raises(RuntimeError, match="closed"):
        recorder.worker.call(lambda: None).result(timeout=DEADLINE)


@pytest.mark.parametrize("way", ["offer", "call"])
def test_what_was_processed_is_not_kept_until_the_next_comes(way):
    class Large:
        def __call__(self):
            pass

    released = threading.Event()
    item = Large()
    weakref.finalize(item, released.set)
    worker = LatestWorker(lambda _: None, lambda _: None, lambda _: None)
    getattr(worker, way)(item)
    del item
    assert released.wait(5.0)
    assert worker.close(DEADLINE)
