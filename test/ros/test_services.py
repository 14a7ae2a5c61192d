# SPDX-License-Identifier: Apache-2.0
"""Every request that reaches a node is answered, also many at once."""

from dataclasses import dataclass

import pytest
import rclpy
from probe import DEADLINE
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from std_srvs.srv import Trigger

from vjepa2_ros.ros.managed_node import ManagedNode
from vjepa2_ros.settings.declaration import Settings


@dataclass(frozen=True)
class NoSettings(Settings):
    """None."""


class Asked(ManagedNode):
    """Offers a service; `answering` is what its coroutine does."""

    NAME = "asked_node"
    SETTINGS = NoSettings

    def configure(self):
        self.asked = 0
        self.serve(Trigger, "ask", self._on_ask)
        self.client = self.use_service(Trigger, "ask")

    async def answering(self):
        """Nothing to wait for."""

    async def _on_ask(self, request, response):
        self.asked += 1
        await self.answering()
        response.success = True
        return response


@pytest.fixture
def context():
    context = Context()
    rclpy.init(context=context)
    yield context
    context.try_shutdown()


@pytest.fixture
def node(context):
    """An active node."""
    node = Asked(context=context)
    node.trigger_configure()
    node.trigger_activate()
    yield node
    node.destroy_node()


@pytest.fixture
def executor(context, node):
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    yield executor
    executor.shutdown()


@pytest.fixture
def spin(node, executor):
    """Spin the node until something is so."""

    def until(condition):
        end = node.steady_now() + DEADLINE
        while not condition():
            assert node.steady_now() < end, "not so before the deadline"
            executor.spin_once(timeout_sec=0.05)

    return until


def test_hundreds_of_requests_at_once_are_all_answered(node, spin):
    """With the history of 10 that is the default, most callers never got an answer."""
    spin(node.client.service_is_ready)
    futures = [node.client.call_async(Trigger.Request()) for _ in range(400)]
    spin(lambda: all(future.done() for future in futures))
    assert all(future.result().success for future in futures)
