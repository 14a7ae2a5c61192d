# SPDX-License-Identifier: Apache-2.0
"""Every request that reaches a node is answered: many at once, and when it goes down."""

from concurrent.futures import Future
from dataclasses import dataclass

import pytest
import rclpy
from probe import DEADLINE
from rclpy.lifecycle import TransitionCallbackReturn
from std_srvs.srv import Trigger

from vjepa2_ros.ros.managed_node import ManagedNode
from vjepa2_ros.ros.qos import SERVICE
from vjepa2_ros.ros.runner import wind_down
from vjepa2_ros.ros.signals import StopEvent
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
        self.nobody = self.use_service(Trigger, "nobody")

    async def _on_ask(self, request, response):
        self.asked += 1
        await self.answering()
        response.success = True
        return response

    async def answering(self):
        """Nothing to wait for."""

    # What may take the place of `answering`: waits that nothing else ends.

    async def wait_for_an_answer(self):
        await self.answer_of(self.nobody, Trigger.Request(), 10 * DEADLINE)

    async def wait_for_a_worker(self):
        await self.result_of(Future())

    async def wait_for_a_service(self):
        await self.is_offered(self.nobody, 10 * DEADLINE)


@pytest.fixture
def node(context):
    """An active node."""
    node = Asked(context=context)
    node.trigger_configure()
    node.trigger_activate()
    yield node
    node.destroy_node()


@pytest.fixture
def ask(node, context, spin):
    """Asks the node several times at once, from another node; returns the futures."""
    caller = rclpy.create_node("caller", context=context)
    client = caller.create_client(Trigger, "ask", qos_profile=SERVICE)
    node.executor.add_node(caller)
    spin(client.service_is_ready)
    yield lambda count=1: [client.call_async(Trigger.Request()) for _ in range(count)]
    caller.destroy_node()


def done(futures):
    return lambda: all(future.done() for future in futures)


def test_hundreds_of_requests_at_once_are_all_answered(ask, spin):
    """With the history of 10 that is the default, most callers never got an answer."""
    answers = ask(400)
    spin(done(answers))
    assert all(answer.result().success for answer in answers)


def deactivate_and_clean_up(node):
    assert node.trigger_deactivate() == node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS


WAYS_DOWN = {
    "is deactivated": lambda node: node.trigger_deactivate(),
    "is deactivated and cleaned up": deactivate_and_clean_up,
    "is shut down": lambda node: node.trigger_shutdown(),
}


@pytest.mark.parametrize("way", WAYS_DOWN)
@pytest.mark.parametrize("wait", ["an_answer", "a_worker", "a_service"])
def test_what_waits_is_answered_when_the_node(way, wait, node, ask, spin):
    """The service was destroyed before its coroutine could answer."""
    node.answering = getattr(node, f"wait_for_{wait}")
    answers = ask(3)
    spin(lambda: node.asked == 3)
    WAYS_DOWN[way](node)
    spin(done(answers))
    for answer in answers:
        assert not answer.result().success and "went down" in answer.result().message
    spin(lambda: not node.is_answering)


def test_a_client_of_the_former_configuration_is_answered_at_once(node, ask, spin):
    """It was matched with a service that had been destroyed, and its request went to nobody."""
    before = list(node.services)
    for _ in range(20):
        deactivate_and_clean_up(node)
        node.trigger_configure()
        node.trigger_activate()
        answers = ask(3)
        spin(done(answers))
        assert all(answer.result().success for answer in answers)
    # In one process others find a new one at once, and would be answered all the same.
    assert list(node.services) == before


def test_a_node_that_is_cleaned_up_refuses_what_it_is_asked(node, ask, spin):
    deactivate_and_clean_up(node)
    answers = ask()
    spin(done(answers))
    assert not answers[0].result().success and "not active" in answers[0].result().message


def test_a_process_that_ends_answers_what_waits(node, executor, ask, spin):
    node.answering = node.wait_for_a_worker
    (answer,) = ask()
    spin(lambda: node.asked == 1)
    wind_down(executor, node, 0.0, StopEvent())
    assert not node.is_answering
    spin(answer.done)
    assert not answer.result().success
