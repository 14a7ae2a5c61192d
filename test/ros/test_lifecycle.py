# SPDX-License-Identifier: Apache-2.0
"""The base class of the nodes: each transition, each hook that fails, each callback that raises."""

import threading
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import rclpy
from probe import DEADLINE
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter
from std_msgs.msg import Empty
from std_srvs.srv import Trigger

from vjepa2_ros.msg import StackMembers
from vjepa2_ros.ros.awaiting_node import Refused
from vjepa2_ros.ros.health import Health
from vjepa2_ros.ros.mailbox import LatestWorker
from vjepa2_ros.ros.managed_node import ManagedNode
from vjepa2_ros.ros.runner import wind_down
from vjepa2_ros.ros.signals import StopEvent
from vjepa2_ros.ros.supervision import MANAGER_HEARTBEAT
from vjepa2_ros.settings.declaration import Settings, SettingsError, setting
from vjepa2_ros.settings.stack import MANAGER

SUCCESS, FAILURE, ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)


@dataclass(frozen=True)
class ExampleSettings(Settings):
    """One setting of each kind."""

    rate: float = setting(10.0, "a rate", "Hz", 0.1, 120.0)
    effort: int = setting(8, "may change at any time", minimum=1, live="any")
    limit: float = setting(0.5, "may only become lower", "m", 0.0, 1.0, live="lower")


class Example(ManagedNode):
    """Notes which hooks were called, and raises where it is told to."""

    NAME = "example_node"
    SETTINGS = ExampleSettings

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
def node(context):
    node = Example(context=context)
    yield node
    node.destroy_node()


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
    assert node.entities() == before + 1, "its service stays"
    assert node.trigger_configure() == SUCCESS
    assert node.entities() == before + 4, "and is there once"


@pytest.mark.parametrize(
    "error, result", [(ValueError("no checkpoint"), FAILURE), (KeyError("bug"), ERROR)]
)
def test_a_failed_configuration_is_reported_undone_and_can_be_repeated(node, error, result):
    before = node.entities()
    node.raising = {"configure": error}
    assert node.trigger_configure() == result
    assert node.label == "unconfigured" and node.entities() == before + 1
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


@pytest.mark.parametrize("error", [RuntimeError("the robot did not halt"), KeyError("bug")])
def test_a_node_that_cannot_be_deactivated_stays_active_and_goes_on(error, node, spin):
    """It once became inactive, and nothing watched a robot that could not be halted."""
    node.trigger_configure()
    node.trigger_activate()
    node.raising = {"deactivate": error}
    assert node.trigger_deactivate() == FAILURE
    assert node.label == "active" and node.is_active
    assert "cannot deactivate" in node.health.last_error
    node.calls.clear()
    spin(lambda: "timer" in node.calls)
    assert ask(node, spin).success
    node.raising = {}
    assert node.trigger_deactivate() == SUCCESS and not node.is_active


def test_a_node_that_is_to_end_tries_to_deactivate_until_it_succeeds(node, executor):
    node.trigger_configure()
    node.trigger_activate()
    node.raising = {"deactivate": RuntimeError("the robot did not halt")}

    def recover():
        if node.calls.count("deactivate") >= 3:
            node.raising = {}

    node.create_timer(0.01, recover)
    wind_down(executor, node, 0.0, StopEvent())
    assert node.label == "finalized" and node.calls.count("deactivate") == 4
    assert node.calls[-1] == "cleanup" and "timer" in node.calls


def test_a_node_that_is_to_end_does_not_try_for_ever(node, executor, monkeypatch):
    monkeypatch.setattr("vjepa2_ros.ros.runner.DEACTIVATION_TIMEOUT", 0.5)
    node.trigger_configure()
    node.trigger_activate()
    node.raising = {"deactivate": RuntimeError("the robot did not halt")}
    wind_down(executor, node, 0.0, StopEvent())
    assert node.label == "finalized" and node.calls.count("deactivate") > 2


@pytest.fixture
def manager(node, executor, context):
    """Heartbeats of a lifecycle manager, which has been heard; call it to silence it."""
    manager = rclpy.create_node(MANAGER, context=context)
    heartbeat = manager.create_publisher(StackMembers, MANAGER_HEARTBEAT, 1)
    message = StackMembers(instance="manager", nodes=["example_node"], instances=["example"])
    timer = node.create_timer(0.1, lambda: heartbeat.publish(message))
    deadline = node.steady_now() + DEADLINE
    while not node.manager.is_there:
        assert node.steady_now() < deadline
        executor.spin_once(timeout_sec=0.1)
    yield timer.cancel
    node.destroy_timer(timer)
    manager.destroy_node()


def test_a_node_that_is_to_end_leaves_that_to_a_manager_that_is_there(node, executor, manager):
    """Ctrl-C under `ros2 launch` reaches all at once, and all once went down in no order."""
    assert node.trigger_configure() == SUCCESS and node.trigger_activate() == SUCCESS
    begun = node.steady_now()

    def bring_down():
        assert node.trigger_deactivate() == SUCCESS and node.trigger_cleanup() == SUCCESS

    timer = node.create_timer(1.0, bring_down)
    wind_down(executor, node, DEADLINE, StopEvent())
    assert 0.9 < node.steady_now() - begun < DEADLINE / 2
    assert node.label == "finalized" and node.calls.count("deactivate") == 1
    node.destroy_timer(timer)


@pytest.mark.parametrize("why", ["its time is over", "it fell silent", "a second signal"])
def test_a_node_does_not_wait_for_a_manager_for_ever(why, node, executor, manager):
    node.trigger_configure()
    node.trigger_activate()
    stop = StopEvent()
    if why == "it fell silent":
        manager()
    elif why == "a second signal":
        node.create_timer(0.2, stop.set)
    begun = node.steady_now()
    wind_down(executor, node, 1.0 if why == "its time is over" else DEADLINE, stop)
    assert node.label == "finalized" and node.steady_now() - begun < 15.0


def test_a_node_that_never_heard_a_manager_winds_down_alone(node, executor):
    node.trigger_configure()
    node.trigger_activate()
    begun = node.steady_now()
    wind_down(executor, node, DEADLINE, StopEvent())
    assert node.label == "finalized" and node.steady_now() - begun < 10.0


def test_silence_of_the_manager_is_counted_while_the_node_works(node, executor, manager):
    manager()
    deadline = node.steady_now() + DEADLINE
    while not node.manager.is_lost:
        assert node.steady_now() < deadline
        executor.spin_once(timeout_sec=0.1)
    assert not node.manager.is_there


def test_a_manager_that_is_never_heard_after_an_activation_is_lost(node, executor):
    """A heartbeat may not be discovered in time; the node once went on without a manager."""
    node.trigger_configure()
    assert not node.manager.is_there
    node.trigger_activate()
    deadline = node.steady_now() + DEADLINE
    while not node.manager.is_lost:
        assert node.steady_now() < deadline
        executor.spin_once(timeout_sec=0.1)


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


def change(node, name, value):
    return node.set_parameters([RosParameter(name, value=value)])[0]


def test_any_parameter_can_be_changed_until_the_node_is_configured(node):
    assert change(node, "rate", 20.0).successful and node.settings.rate == 20.0
    refused = change(node, "rate", 500.0)
    assert not refused.successful and "120.0" in refused.reason
    node.trigger_configure()
    refused = change(node, "rate", 30.0)
    assert not refused.successful and "clean it up" in refused.reason
    assert node.settings.rate == 20.0


def test_while_active_what_is_live_changes_bounds_only_narrow_and_the_rest_is_refused(node):
    node.trigger_configure()
    node.trigger_activate()
    assert change(node, "effort", 4).successful and node.settings.effort == 4
    assert change(node, "limit", 0.3).successful and node.settings.limit == 0.3
    assert change(node, "limit", 0.5).successful, "up to what was configured"
    refused = change(node, "limit", 0.6)
    assert not refused.successful and "only become narrower" in refused.reason
    refused = change(node, "rate", 5.0)
    assert not refused.successful and "deactivate and clean it up" in refused.reason
    assert (node.settings.limit, node.settings.rate) == (0.5, 10.0)


def test_a_warning_that_repeats_is_logged_once_and_counted(node, monkeypatch):
    """Commands refused at 400/s once filled the log, and the pipe behind it."""
    now, lines = [0.0], []
    node.health = Health("/example_node", clock=lambda: now[0])
    logger = SimpleNamespace(warning=lines.append)
    monkeypatch.setattr(node, "get_logger", lambda: logger)
    for number in range(400):
        node.log_throttled(f"command {number} refused", "refused")
    node.log_throttled("something else")
    now[0] = 11.0
    node.log_throttled("command 400 refused", "refused")
    assert lines == [
        "command 0 refused",
        "something else",
        "command 400 refused (and 399 more of this kind)",
    ]


def test_an_unknown_or_bad_parameter_keeps_the_node_from_starting(context):
    overrides = [RosParameter("rate", value=-1.0), RosParameter("raet", value=1.0)]
    with pytest.raises(SettingsError) as caught:
        Example(context=context, parameter_overrides=overrides)
    assert "rate is -1.0" in str(caught.value) and "did you mean 'rate'" in str(caught.value)
