# SPDX-License-Identifier: Apache-2.0
"""The base class of the nodes: each transition, each hook that fails, each callback that raises."""

import threading

import pytest
import rclpy
from probe import DEADLINE
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter
from std_msgs.msg import Empty
from std_srvs.srv import Trigger

from vjepa2_ros.ros.mailbox import LatestWorker
from vjepa2_ros.ros.managed_node import ManagedNode, Refused
from vjepa2_ros.ros.parameters import Parameter, ParameterError

SUCCESS, FAILURE, ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)


class Example(ManagedNode):
    """Notes which hooks were called, and raises where it is told to."""

    NAME = "example_node"
    PARAMETERS = (Parameter("rate", 10.0, "a rate", "Hz", 0.1, 120.0),)

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.calls, self.raising, self.received = [], {}, []

    def _hook(self, name):
        self.calls.append(name)
        if name in self.raising:
            raise self.raising[name]

    def configure(self):
        self.output = self.advertise(Empty, "output", 1)
        self.subscribe(Empty, "output", self._on_message, 1)
        self.serve(Trigger, "ask", self._on_ask)
        self.every(0.01, self._on_timer)
        self._hook("configure")

    def activate(self):
        self._hook("activate")

    def deactivate(self):
        self._hook("deactivate")

    def cleanup(self):
        self._hook("cleanup")

    def _on_message(self, message):
        self._hook("message")

    def _on_timer(self):
        self._hook("timer")

    async def _on_ask(self, request, response):
        self._hook("ask")
        response.success = True
        return response

    @property
    def label(self):
        return self._state_machine.current_state[1]

    def entities(self):
        kinds = (self.publishers, self.subscriptions, self.services, self.timers)
        return sum(len(list(kind)) for kind in kinds)


@pytest.fixture
def context():
    context = Context()
    rclpy.init(context=context)
    yield context
    context.try_shutdown()


@pytest.fixture
def node(context):
    node = Example(context=context)
    yield node
    node.destroy_node()


@pytest.fixture
def spin(context, node):
    """Spin the node until something is so."""
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def until(condition):
        clock = node._steady
        end = clock.now().nanoseconds + DEADLINE * 1e9
        while not condition():
            assert clock.now().nanoseconds < end, "not so before the deadline"
            executor.spin_once(timeout_sec=0.05)

    yield until
    executor.shutdown()


def ask(node, spin):
    client = node.create_client(Trigger, "ask")
    spin(client.service_is_ready)
    future = client.call_async(Trigger.Request())
    spin(future.done)
    node.destroy_client(client)
    return future.result()


def test_up_and_down_again_leaves_nothing_behind(node):
    before = node.entities()
    assert node.trigger_configure() == SUCCESS and node.label == "inactive"
    assert node.entities() == before + 4 and not node.is_active
    assert node.trigger_activate() == SUCCESS and node.is_active
    assert node.trigger_deactivate() == SUCCESS and not node.is_active
    assert node.trigger_cleanup() == SUCCESS and node.label == "unconfigured"
    assert node.calls == ["configure", "activate", "deactivate", "cleanup"]
    assert node.entities() == before


@pytest.mark.parametrize(
    "error, result", [(ValueError("no checkpoint"), FAILURE), (KeyError("bug"), ERROR)]
)
def test_a_failed_configuration_is_reported_undone_and_can_be_repeated(node, error, result):
    before = node.entities()
    node.raising = {"configure": error}
    assert node.trigger_configure() == result
    assert node.label == "unconfigured" and node.entities() == before
    assert "cannot configure" in node.health.last_error and "cleanup" in node.calls
    node.raising = {}
    assert node.trigger_configure() == SUCCESS


def test_a_failed_activation_is_undone(node):
    node.raising = {"activate": OSError("camera gone")}
    node.trigger_configure()
    assert node.trigger_activate() == FAILURE
    assert node.label == "inactive" and not node.is_active and node.calls[-1] == "deactivate"
    assert "camera gone" in node.health.last_error
    node.raising = {}
    assert node.trigger_activate() == SUCCESS


def test_an_error_while_deactivating_still_winds_the_node_down(node):
    before = node.entities()
    node.trigger_configure()
    node.trigger_activate()
    node.raising = {"deactivate": KeyError("bug")}
    assert node.trigger_deactivate() == ERROR
    assert node.label == "unconfigured" and not node.is_active and node.entities() == before


def test_shutting_down_an_active_node_deactivates_it_first(node):
    node.trigger_configure()
    node.trigger_activate()
    node.shut_down()
    assert node.label == "finalized" and node.calls[-2:] == ["deactivate", "cleanup"]
    node.shut_down()


def test_an_inactive_node_does_not_act(node, spin):
    node.trigger_configure()
    answer = ask(node, spin)
    assert not answer.success and "example_node is not active" in answer.message
    node.output.publish(Empty())
    node.trigger_activate()
    spin(lambda: "timer" in node.calls)
    assert node.calls.index("activate") < node.calls.index("timer")
    assert "ask" not in node.calls


@pytest.mark.parametrize("callback", ["timer", "message"])
def test_an_exception_in_a_callback_is_reported_and_the_node_lives_on(callback, node, spin):
    node.trigger_configure()
    node.trigger_activate()
    node.raising = {callback: ValueError("bad input")}
    node.output.publish(Empty())
    spin(lambda: "bad input" in node.health.last_error)
    node.raising = {}
    assert ask(node, spin).success


@pytest.mark.parametrize(
    "error, text",
    [(Refused("not now"), "not now"), (ValueError("too small"), "too small"), (KeyError(3), "3")],
)
def test_a_service_that_raises_answers_with_the_reason(error, text, node, spin):
    node.trigger_configure()
    node.trigger_activate()
    node.raising = {"ask": error}
    answer = ask(node, spin)
    assert not answer.success and text in answer.message
    assert node.is_active


def test_a_hardware_fault_deactivates_the_node(node):
    node.trigger_configure()
    node.trigger_activate()
    node.fail("the camera was unplugged")
    assert node.label == "inactive" and node.health.last_error == "the camera was unplugged"


def test_results_of_other_threads_arrive_in_the_executors_thread(node, spin):
    node.trigger_configure()
    node.trigger_activate()
    threads = []
    worker = LatestWorker(
        lambda item: threading.get_ident(),
        lambda ident: node.post(lambda: threads.extend([ident, threading.get_ident()])),
        node.post_error,
    )
    worker.offer(1)
    spin(lambda: threads)
    assert worker.close(DEADLINE)
    assert threads[0] != threads[1] == threading.get_ident()


def test_an_exception_in_a_worker_is_not_lost(node, spin):
    node.trigger_configure()
    node.trigger_activate()
    worker = LatestWorker(lambda item: 1 / 0, lambda result: None, node.post_error)
    worker.offer(1)
    spin(lambda: "division by zero" in node.health.last_error)
    assert worker.close(DEADLINE)


def test_waiting_for_an_answer_that_does_not_come_has_a_deadline(node, spin):
    node.trigger_configure()
    node.trigger_activate()
    client = node.use_service(Trigger, "nobody")
    outcome = []

    async def wait():
        try:
            await node.answer_of(client, Trigger.Request(), 0.2)
        except TimeoutError as error:
            outcome.append(error)

    node.executor.create_task(wait)
    spin(lambda: outcome)


def test_parameters_can_be_changed_until_the_node_is_configured(node):
    def change(value):
        return node.set_parameters([RosParameter("rate", value=value)])[0]

    assert change(20.0).successful and node.settings.rate == 20.0
    refused = change(500.0)
    assert not refused.successful and "120.0" in refused.reason
    node.trigger_configure()
    refused = change(30.0)
    assert not refused.successful and "clean it up" in refused.reason
    assert node.settings.rate == 20.0


def test_an_unknown_or_bad_parameter_keeps_the_node_from_starting(context):
    overrides = [RosParameter("rate", value=-1.0), RosParameter("raet", value=1.0)]
    with pytest.raises(ParameterError) as caught:
        Example(context=context, parameter_overrides=overrides)
    assert "rate is -1.0" in str(caught.value) and "did you mean 'rate'" in str(caught.value)
