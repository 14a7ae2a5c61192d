# SPDX-License-Identifier: Apache-2.0
"""A node of the tests' own: it listens, publishes, calls and serves over the same DDS.

It spins in a thread, keeps every message, and waits for events with a deadline instead of sleeping.
"""

import threading
import time
from collections import defaultdict

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

DEADLINE = 180.0
TRANSITIONS = {
    "configure": (Transition.TRANSITION_CONFIGURE, "inactive"),
    "activate": (Transition.TRANSITION_ACTIVATE, "active"),
    "deactivate": (Transition.TRANSITION_DEACTIVATE, "inactive"),
    "cleanup": (Transition.TRANSITION_CLEANUP, "unconfigured"),
}
"""Number of each transition, and the state that it leads to."""


class NoAnswer(AssertionError):
    """A service did not answer in time."""


class Probe:
    """Everything by relative name in one namespace."""

    def __init__(self, namespace):
        self._context = Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node("probe", namespace=namespace, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._changed = threading.Condition()
        self._messages = defaultdict(list)
        self._publishers = {}
        self._clients = {}
        self._closing = False
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self):
        while not self._closing:
            self._executor.spin_once(timeout_sec=0.1)

    def close(self):
        self._closing = True
        self._thread.join(DEADLINE)
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()

    def run(self, callback):
        """Run something in the probe's thread, and wait for it: to destroy what may be in use."""
        done = threading.Event()
        self._executor.create_task(lambda: (callback(), done.set()))
        assert done.wait(DEADLINE)

    # Listening

    def listen(self, message_type, topic, qos):
        def keep(message):
            with self._changed:
                self._messages[topic].append(message)
                self._changed.notify_all()

        self.node.create_subscription(message_type, topic, keep, qos)

    def mark(self, topic):
        """How many messages of a topic have come so far; see `after`."""
        with self._changed:
            return len(self._messages[topic])

    def messages(self, topic, after=0):
        with self._changed:
            return self._messages[topic][after:]

    def wait(self, topic, predicate=lambda message: True, after=None, deadline=DEADLINE):
        """First message that satisfies the predicate among those after a mark (None: new ones)."""
        end = time.monotonic() + deadline
        with self._changed:
            start = len(self._messages[topic]) if after is None else after
            while True:
                for message in self._messages[topic][start:]:
                    if predicate(message):
                        return message
                start = max(start, len(self._messages[topic]))
                left = end - time.monotonic()
                last = self._messages[topic][-1:] or "no message"
                assert left > 0, f"nothing fitting on {topic} within {deadline} s; last: {last}"
                self._changed.wait(left)

    def wait_until(self, predicate, deadline=DEADLINE):
        """Wait for a condition that messages or the graph bring about."""
        end = time.monotonic() + deadline
        with self._changed:
            while not predicate():
                assert time.monotonic() < end, f"not so within {deadline} s"
                self._changed.wait(0.05)

    # Speaking

    def publish(self, topic, message, qos):
        if topic not in self._publishers:
            self._publishers[topic] = self.node.create_publisher(type(message), topic, qos)
        publisher = self._publishers[topic]
        self.wait_until(lambda: publisher.get_subscription_count() > 0)
        publisher.publish(message)

    def now(self):
        return self.node.get_clock().now().nanoseconds * 1e-9

    # Services

    def serve(self, service_type, name, answer):
        return self.node.create_service(service_type, name, answer)

    def call(self, service_type, name, request, deadline=DEADLINE):
        key = service_type, name
        if key not in self._clients:
            client = self._clients[key] = self.node.create_client(service_type, name)
            # A node that has just been started imports torch first.
            assert client.wait_for_service(DEADLINE), f"nobody offers {name}"
            # The other side must have found this client, too, and nothing tells when it has.
            threading.Event().wait(0.5)
        client = self._clients[key]
        assert client.wait_for_service(deadline), f"nobody offers {name}"
        done = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        if not done.wait(deadline):
            client.remove_pending_request(future)
            raise NoAnswer(f"{name} gave no answer within {deadline} s")
        return future.result()

    def change(self, node, transition):
        """Ask a node for a transition; True if it succeeded.

        The answer gets lost where the node, under load, has not found this client yet; then the
        state tells what became of the request.
        """
        number, after = TRANSITIONS[transition]
        request = ChangeState.Request(transition=Transition(id=number))
        try:
            return self.call(ChangeState, f"{node}/change_state", request, deadline=20.0).success
        except NoAnswer:
            return self.state(node) == after

    def state(self, node):
        for _ in range(3):
            try:
                answer = self.call(GetState, f"{node}/get_state", GetState.Request(), deadline=20.0)
                return answer.current_state.label
            except NoAnswer:
                continue
        raise NoAnswer(f"{node} does not say which state it is in")
