# SPDX-License-Identifier: Apache-2.0
"""What the coroutines of a node's services wait for: answers, results of workers, conditions.

A caller gets its answer from such a coroutine and from nothing else. Every wait therefore has an
end: what was waited for, a deadline, or `end_waits` when the node goes down.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode
from rclpy.task import Future as RosFuture

from vjepa2_ros.robot.reason import Reason

# Period of looking whether a condition holds [s].
_LOOK_AGAIN = 0.02


class Refused(Exception):
    """Raised in a service callback to answer no.

    Args:
        text: becomes the answer's `message`.
        reason: becomes the answer's `reason`, where it has one.
    """

    def __init__(self, text: str, reason: Reason = Reason.INVALID) -> None:
        super().__init__(text)
        self.reason = reason


class AwaitingNode(LifecycleNode):
    """A node whose coroutines wait; all methods belong to the executor's thread.

    Every wait raises Refused if the node goes down meanwhile.
    """

    NAME = ""

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__(self.NAME, **node_arguments)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._waits: set[RosFuture] = set()

    def steady_now(self) -> float:
        """Steady time in seconds: what watchdogs are measured with; no clock change moves it."""
        return self._steady.now().nanoseconds * 1e-9

    async def result_of(self, job: concurrent.futures.Future) -> Any:
        """Await a job of a worker in a coroutine callback; raises what the job raised."""
        future = RosFuture(executor=self.executor)
        job.add_done_callback(lambda _: self.executor.create_task(self._hand_over, job, future))
        return await self._wait(future)

    async def is_offered(self, client: Any, timeout: float) -> bool:
        """Await in a service's coroutine that another service is there; False if not in time.

        A node that has just been activated may not have discovered the others.
        """
        return await self.comes_true(client.service_is_ready, timeout)

    async def comes_true(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Await in a service's coroutine that a condition holds; False if not in time [s]."""
        deadline = self.steady_now() + timeout
        while not condition():
            if self.steady_now() > deadline:
                return False
            await self._pause(_LOOK_AGAIN)
        return True

    async def answer_of(self, client: Any, request: Any, timeout: float) -> Any:
        """Await a service's answer in a coroutine callback; raises TimeoutError."""
        future = client.call_async(request)
        timer = self.create_timer(timeout, lambda: self._give_up(future), clock=self._steady)
        try:
            return await self._wait(future)
        finally:
            self.destroy_timer(timer)
            client.remove_pending_request(future)

    def end_waits(self) -> None:
        """Have all that wait raise Refused: what they use is about to be destroyed."""
        for future in self._waits:
            # Also one that is done: its coroutine has not gone on yet.
            future.set_exception(
                Refused(f"{self.NAME} went down in the meantime", Reason.NODE_INACTIVE)
            )

    async def _wait(self, future: RosFuture) -> Any:
        self._waits.add(future)
        try:
            return await future
        finally:
            self._waits.discard(future)

    async def _pause(self, duration: float) -> None:
        over = RosFuture(executor=self.executor)
        timer = self.create_timer(duration, lambda: over.set_result(None), clock=self._steady)
        try:
            await self._wait(over)
        finally:
            self.destroy_timer(timer)

    def _hand_over(self, job: concurrent.futures.Future, future: RosFuture) -> None:
        if future.done():
            return
        error = job.exception()
        if error is None:
            future.set_result(job.result())
        else:
            future.set_exception(error)  # type: ignore[arg-type]
        # The coroutine that awaits was looked at before this: have the executor look again.
        self.executor.wake()

    @staticmethod
    def _give_up(future: RosFuture) -> None:
        if not future.done():
            future.set_exception(TimeoutError("no answer in time"))
