# SPDX-License-Identifier: Apache-2.0
"""A worker thread behind a mailbox that holds the latest item only.

A model call that takes longer than the period of its input would block the executor that makes it
(timers, heartbeats and services with it), and items in a queue would become stale. So the call
runs in a thread of its own, and what has not been started when something newer arrives is dropped.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")


class LatestWorker(Generic[Item]):
    """Runs `process(item)` in its own thread, always on the newest item offered.

    Jobs given to `call` run in the same thread, before the next item and in order, and none of
    them is dropped.

    Args:
        process: called in the worker's thread; its result goes to `on_result`.
        on_result: called in the worker's thread with the result.
        on_error: called in the worker's thread with the exception of `process` or `on_result`; the
            worker then continues with the next item, so that one bad frame does not end the stream.
        name: of the thread.
    """

    def __init__(
        self,
        process: Callable[[Item], Any],
        on_result: Callable[[Any], None],
        on_error: Callable[[Exception], None],
        name: str = "worker",
    ) -> None:
        self._process = process
        self._on_result = on_result
        self._on_error = on_error
        self._condition = threading.Condition()
        self._item: list[Item] = []
        self._jobs: deque[tuple[Callable[[], Any], Future]] = deque()
        self._closed = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def offer(self, item: Item) -> None:
        """Leave an item for the worker; replaces one that has not been taken yet."""
        with self._condition:
            if self._closed:
                return
            self.dropped += len(self._item)
            self._item = [item]
            self._condition.notify()

    def call(self, job: Callable[[], Any]) -> Future:
        """Run a job in the worker's thread; the future holds its result or its exception."""
        future: Future = Future()
        with self._condition:
            if self._closed:
                future.set_exception(RuntimeError("the worker is closed"))
                return future
            self._jobs.append((job, future))
            self._condition.notify()
        return future

    def discard(self) -> None:
        """Forget the item that waits, if any; the one in work goes on."""
        with self._condition:
            self._item = []

    def close(self, timeout: float = 3.0) -> bool:
        """Finish the current item, drop the rest and end the thread; False if it did not end.

        It is not waited for longer than `timeout` [s], which leaves time to the other transitions
        during shutdown: the thread ends with its process.
        """
        with self._condition:
            self._closed = True
            self._item = []
            jobs, self._jobs = self._jobs, deque()
            self._condition.notify()
        for _, future in jobs:
            future.set_exception(RuntimeError("the worker was closed before the job was started"))
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._jobs or self._item or self._closed)
                if self._closed:
                    return
                if self._jobs:
                    job, future = self._jobs.popleft()
                else:
                    job, future = None, None
                    item = self._item.pop()
            if job is not None:
                self._run_job(job, future)
                job = future = None
                continue
            try:
                self._on_result(self._process(item))
            except Exception as error:  # noqa: BLE001 - must be reported to the owner
                self._on_error(error)
            # Or it would be kept until the next one comes.
            item = None

    @staticmethod
    def _run_job(job: Callable[[], Any], future: Future) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(job())
        except Exception as error:  # noqa: BLE001 - handed to whoever waits for the job
            future.set_exception(error)
