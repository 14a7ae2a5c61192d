# SPDX-License-Identifier: Apache-2.0
"""The one base class of all nodes: it owns the lifecycle, and subclasses fill four hooks.

What rclpy leaves to each node is done here once: exceptions of transitions are logged instead of
swallowed, a failed transition leaves nothing behind, an exception in a callback neither ends the
process nor goes unheard, an inactive node neither acts nor pretends to, and once a second every
node says on `/diagnostics` that it lives, how fast it works and what last went wrong.

All callbacks run in one thread. Work that takes long runs in a worker (see mailbox.py) and hands
its result back with `post`, so that no node needs a lock.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.ros.awaiting_node import AwaitingNode, Refused
from vjepa2_ros.ros.compatibility import identity
from vjepa2_ros.ros.health import Health
from vjepa2_ros.ros.parameters import USE_SIM_TIME, declare, own_parameters
from vjepa2_ros.ros.qos import SERVICE
from vjepa2_ros.ros.supervision import HEARTBEAT_PERIOD, ManagerWatch
from vjepa2_ros.settings.declaration import (
    SettingsError,
    build,
    parameters_of,
    refuse_live,
    values_of,
)
from vjepa2_ros.text import printable

ENDING = "ending"
"""State in the heartbeat of a node that was told to end while it is up."""
# Faults of the surroundings, told in a sentence; anything else is a fault of the program, told
# with a traceback.
_EXPECTED = (ValueError, OSError, RuntimeError)


class ManagedNode(AwaitingNode):
    """A managed node. Subclasses set NAME and SETTINGS and fill the hooks that they need.

    Hooks: `configure` loads and creates, `activate` starts, `deactivate` stops, `cleanup`
    releases. They raise on failure, and the last two must work after half of the first two, since
    they also undo a transition that failed. Communication is created in
    `configure` with `advertise`, `subscribe`, `serve` and `every`, and destroyed by this class.
    A `deactivate` that raises leaves the node active: what could not be stopped has to be watched.

    A node whose STARTS_BY_ITSELF is true is configured and activated by its process, without the
    lifecycle manager, and its end is the end of nothing else.

    Attributes:
        settings: typed settings of the node, an instance of SETTINGS; replaced when parameters
            change, after which `settings_changed` is called.
        manager: whether the lifecycle manager is alive.
    """

    SETTINGS: type
    STARTS_BY_ITSELF = False

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__(**node_arguments)
        self.settings: Any = declare(self, self.SETTINGS)
        self._configured_with: dict[str, Any] = {}
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self.health = Health(self.get_fully_qualified_name())
        for name, value in identity().items():
            self.health.set(name, value)
        self.manager = ManagerWatch(self)
        self._is_active = self._is_configured = self._is_ending = False
        self._created: list[tuple[Callable, Any]] = []
        self._serving: dict[str, Callable] = {}
        self._answering = 0
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_timer(HEARTBEAT_PERIOD, self._publish_health, clock=self._steady)

    # Hooks ----------------------------------------------------------------------------------

    def configure(self) -> None:
        """Load what is needed and create the communication."""

    def activate(self) -> None:
        """Start to work."""

    def settings_changed(self) -> None:
        """Take over `settings` after a change of parameters while the node is configured.

        Raise ValueError to refuse the change, with nothing changed.
        """

    def deactivate(self) -> None:
        """Stop to work; raise if something that must be stopped could not be."""

    def cleanup(self) -> None:
        """Release what `configure` loaded."""

    # For subclasses -------------------------------------------------------------------------

    @property
    def is_active(self) -> bool:
        """True between a successful activation and a successful deactivation."""
        return self._is_active

    @property
    def is_up(self) -> bool:
        """True while the node is configured, active or not."""
        return self._is_configured

    @property
    def is_answering(self) -> bool:
        """True while an answer to a request is outstanding."""
        return self._answering > 0

    def now(self) -> float:
        """ROS time in seconds: what stamps and ages are measured with."""
        return self.get_clock().now().nanoseconds * 1e-9

    def advertise(self, message_type: type, topic: str, qos: Any) -> Any:
        """Create a publisher for the time of this configuration."""
        publisher = self.create_publisher(message_type, topic, qos)
        self._created.append((self.destroy_publisher, publisher))
        return publisher

    def subscribe(self, message_type: type, topic: str, callback: Callable, qos: Any) -> Any:
        """Subscribe; the callback runs only while the node is active."""
        subscription = self.create_subscription(message_type, topic, self._guard(callback), qos)
        self._created.append((self.destroy_subscription, subscription))
        return subscription

    def unsubscribe(self, subscription: Any) -> None:
        """End a subscription before the node goes down."""
        self._created.remove((self.destroy_subscription, subscription))
        self.destroy_subscription(subscription)

    def every(self, period: float, callback: Callable) -> None:
        """Call back every `period` seconds of steady time while the node is active."""
        timer = self.create_timer(period, self._guard(callback), clock=self._steady)
        self._created.append((self.destroy_timer, timer))

    def serve(
        self,
        service_type: type,
        name: str,
        callback: Callable,
        when_inactive: str = "bring it up first",
    ) -> None:
        """Offer a service. The callback fills the response and returns it, or raises Refused.

        The service stays when the node is cleaned up, and refuses what it is asked until the node
        is active again. A client that was matched with a service which is created anew sends its
        next request to nobody, and would wait for ever.

        It may be a coroutine; calls may then overlap. What it waits for, it awaits with the methods
        of `AwaitingNode`, so that it answers also when the node goes down.

        Args:
            service_type: class of the service.
            name: of the service.
            callback: takes the request and the response.
            when_inactive: what to do instead, for who asks while the node is not active.
        """
        if name not in self._serving:
            group = ReentrantCallbackGroup()
            answer = self._answer_to(name, when_inactive)
            self.create_service(
                service_type, name, answer, qos_profile=SERVICE, callback_group=group
            )
        self._serving[name] = callback

    def use_service(self, service_type: type, name: str) -> Any:
        """Create a client whose answers arrive while other callbacks are suspended."""
        group = ReentrantCallbackGroup()
        client = self.create_client(service_type, name, qos_profile=SERVICE, callback_group=group)
        self._created.append((self.destroy_client, client))
        return client

    def post(self, callback: Callable, *arguments: Any) -> None:
        """Run a callback in the executor's thread; may be called from any thread."""
        executor = self.executor
        if executor is not None:
            executor.create_task(self._guard(callback), *arguments)

    def post_error(self, error: Exception) -> None:
        """Report an exception of another thread in the executor's thread."""
        self.post(self._report, "worker", error)

    def log_throttled(self, text: str, kind: str | None = None) -> None:
        """Log a warning unless one of its kind was logged in the last 10 s.

        For what others can cause at any rate, such as commands that are refused. The next line
        says how many were left out.

        Args:
            text: the warning.
            kind: what it is about, where the text holds numbers that vary; None for the text.
        """
        left_out = self.health.left_out(text if kind is None else kind)
        if left_out is not None:
            more = f" (and {left_out} more of this kind)" if left_out else ""
            self.get_logger().warning(printable(text + more))

    def announce_end(self) -> None:
        """Say at once that this process is about to end, so that the manager ends the stack."""
        self._is_ending = True
        self._publish_health()

    def fail(self, reason: str) -> None:
        """Give up after a fault that needs somebody: report it and deactivate."""
        self.get_logger().error(printable(f"{reason}; deactivating"))
        self.health.error(reason)
        if self._is_active:
            self.trigger_deactivate()

    def shut_down(self) -> None:
        """Wind down in any state of the node, before its process ends."""
        if self._state_machine.current_state[1] != "finalized":
            self.trigger_shutdown()

    # Transitions ----------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._is_configured = True
        self._configured_with = values_of(self.settings)
        result = self._transition("configure", self.configure)
        if result != TransitionCallbackReturn.SUCCESS:
            self._release()
        return result

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = self._transition("activate", self.activate)
        if result == TransitionCallbackReturn.SUCCESS:
            self._is_active = True
            # Its first heartbeat may still be on the way here.
            self.manager.expect()
        else:
            self._transition("undo the activation", self.deactivate)
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        if self._transition("deactivate", self.deactivate) != TransitionCallbackReturn.SUCCESS:
            # Back to `active`, in every case: the robot may still move, and callbacks watch it.
            return TransitionCallbackReturn.FAILURE
        self._is_active = False
        self.end_waits()
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._release()

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._wind_down()

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        # SUCCESS leads back to `unconfigured`, from where the node can be tried again.
        self._wind_down()
        return TransitionCallbackReturn.SUCCESS

    def _wind_down(self) -> TransitionCallbackReturn:
        if self._is_active:
            self._is_active = False
            self._transition("deactivate", self.deactivate)
        self.end_waits()
        return self._release()

    def _release(self) -> TransitionCallbackReturn:
        if not self._is_configured:
            return TransitionCallbackReturn.SUCCESS
        self._is_configured = False
        result = self._transition("clean up", self.cleanup)
        for destroy, entity in reversed(self._created):
            destroy(entity)
        self._created.clear()
        return result

    def _transition(self, name: str, hook: Callable[[], None]) -> TransitionCallbackReturn:
        try:
            hook()
        except Exception as error:  # noqa: BLE001 - rclpy would swallow it
            self._report(f"cannot {name}", error)
            self._publish_health()
            expected = isinstance(error, _EXPECTED)
            return TransitionCallbackReturn.FAILURE if expected else TransitionCallbackReturn.ERROR
        self.get_logger().info(f"{name}: done")
        return TransitionCallbackReturn.SUCCESS

    # Guards ---------------------------------------------------------------------------------

    def _guard(self, callback: Callable) -> Callable:
        def guarded(*arguments: Any) -> None:
            if not self._is_active:
                return
            try:
                callback(*arguments)
            except Exception as error:  # noqa: BLE001 - would end the process otherwise
                self._report(callback.__name__, error)

        return guarded

    def _answer_to(self, name: str, when_inactive: str) -> Callable:
        async def counted(request: Any, response: Any) -> Any:
            self._answering += 1
            try:
                return await answer(request, response)
            finally:
                self._answering -= 1

        async def answer(request: Any, response: Any) -> Any:
            callback = self._serving[name]
            try:
                if not self._is_active:
                    text = f"{self.NAME} is not active: {when_inactive}"
                    raise Refused(text, Reason.NODE_INACTIVE)
                result = callback(request, response)
                return await result if inspect.isawaitable(result) else result
            except Refused as refusal:
                text, reason = str(refusal), refusal.reason
            except Exception as error:  # noqa: BLE001 - the caller would never get an answer otherwise
                text, reason = self._report(callback.__name__, error), Reason.INTERNAL_ERROR
            self.log_throttled(f"refused: {text}", f"refused by {callback.__name__}")
            response = type(response)()
            response.message = text
            if hasattr(response, "reason"):
                response.reason = int(reason)
            return response

        return counted

    def _report(self, what: str, error: Exception) -> str:
        expected = isinstance(error, _EXPECTED)
        text = f"{what}: {error}" if expected else f"{what}: {error!r}"
        # What goes wrong with every image must not fill the log; diagnostics count it.
        if self.health.is_news(text):
            detail = text if expected else "".join(traceback.format_exception(error))
            self.get_logger().error(printable(detail))
        self.health.error(text)
        return text

    def _publish_health(self) -> None:
        state = self._state_machine.current_state[1]
        status = self.health.report(ENDING if self._is_ending and self.is_up else state)
        stamp = self.get_clock().now().to_msg()
        message = DiagnosticArray(status=[status])
        message.header.stamp = stamp
        self._diagnostics.publish(message)

    # Parameters -----------------------------------------------------------------------------

    def _on_set_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        given = own_parameters(self.SETTINGS, {change.name: change.value for change in changes})
        before = self.settings
        try:
            self._check_clock(changes)
            if self._is_configured:
                self._check_live(given)
            self.settings = build(self.SETTINGS, {**values_of(self.settings), **given})
            if self._is_configured:
                self.settings_changed()
        except ValueError as error:
            self.settings = before
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _check_clock(self, changes: list[Parameter]) -> None:
        """Raise SettingsError if the clock would change: stamps and ages are measured with it."""
        given = {change.name: change.value for change in changes}
        present = self.get_parameter(USE_SIM_TIME).value
        if given.get(USE_SIM_TIME, present) != present:
            raise SettingsError(f"{USE_SIM_TIME} is read at the start: start {self.NAME} with it")

    def _check_live(self, given: dict[str, Any]) -> None:
        """Raise SettingsError if one of the parameters may not change while configured."""
        known = parameters_of(self.SETTINGS)
        refusals = [
            refuse_live(known[name], self._configured_with[name], known[name].check(value))
            for name, value in given.items()
            if name in known
        ]
        if reasons := "; ".join(filter(None, refusals)):
            label = self._state_machine.current_state[1]
            raise SettingsError(
                f"{self.NAME} is {label}: {reasons}; deactivate and clean it up to change that"
            )
