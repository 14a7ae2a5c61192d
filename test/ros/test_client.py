# SPDX-License-Identifier: Apache-2.0
"""The client of a running stack: the probe offers the service that it asks."""

import threading

import pytest
from probe import Probe
from rclpy.task import Future
from std_srvs.srv import Trigger

from vjepa2_ros.nodes import client
from vjepa2_ros.nodes.planner_node import PlannerNode
from vjepa2_ros.stack.client import ClientError, StackClient


@pytest.fixture
def offer():
    """Offers `cancel` with an answer; yields a function that returns how to withdraw it.

    By a probe of its own: a callback that never ends would block all others of a shared one.
    """
    probe = Probe("/asked")

    def serve(answer):
        service = probe.serve(Trigger, "cancel", answer)
        return lambda: probe.run(lambda: probe.node.destroy_service(service))

    yield serve
    probe.close()


async def never(request, response):
    return await Future()


def test_an_answer_is_waited_for_longer_than_a_planner_may_take_for_it():
    (parameter,) = (p for p in PlannerNode.PARAMETERS if p.name == "encode_timeout")
    assert client.ANSWER_TIMEOUT > parameter.maximum + 10.0


def test_the_answer_of_a_service_is_handed_over(offer):
    def answer(request, response):
        response.success, response.message = True, "cancelled by the probe"
        return response

    offer(answer)
    with StackClient("/asked") as stack:
        assert stack.cancel().message == "cancelled by the probe"


def test_a_service_that_goes_away_before_it_answers_ends_the_wait(offer):
    asked = threading.Event()

    async def never_again(request, response):
        asked.set()
        return await Future()

    withdraw = offer(never_again)
    threading.Thread(target=lambda: asked.wait(30.0) and withdraw(), daemon=True).start()
    with StackClient("/asked") as stack, pytest.raises(ClientError, match="cancel went away"):
        stack.cancel()


def test_a_service_that_never_answers_ends_the_wait_at_the_deadline(offer, monkeypatch):
    monkeypatch.setattr(client, "ANSWER_TIMEOUT", 1.0)
    offer(never)
    with StackClient("/asked") as stack, pytest.raises(ClientError, match="no answer within 1 s"):
        stack.cancel()
