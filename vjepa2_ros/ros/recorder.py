# SPDX-License-Identifier: Apache-2.0
"""Records every topic into an MCAP bag, as `ros2 bag record --all` does where it is available.

Messages are written as they come over the wire, without decoding them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.serialization import deserialize_message
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from vjepa2_ros.recording.definitions import definition, typestore

if TYPE_CHECKING:  # rclpy of Jazzy has no name for it
    from rclpy.subscription import MessageInfo

_DISCOVERY_PERIOD = 0.5


class Recorder:
    """Subscribes to every topic that appears and writes its messages.

    All in the thread of the node's executor but `close`, which needs the executor at rest.

    Args:
        node: subscribes.
        folder: of the bag; must not exist yet.
        listeners: called with (message, receive time in seconds) for topics by full name.
        topics: types of topics that are subscribed to at once, in this order: one that is
            discovered would be recorded only from then on.

    Attributes:
        counts: messages written so far by topic.
        problem: what kept messages from being written; None if nothing did.
    """

    def __init__(
        self,
        node: Node,
        folder: Path,
        listeners: Mapping[str, Callable[[Any, float], None]],
        topics: Mapping[str, str] | None = None,
    ) -> None:
        self._node = node
        self._listeners = listeners
        self._types = typestore()
        self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        self.problem: OSError | None = None
        self._seen: set[str] = set()
        self._subscriptions: list[Any] = []
        self._closed = False
        self.counts: dict[str, int] = {}
        for topic, type_name in (topics or {}).items():
            self._record(topic, type_name, reliable=True)
        self._timer = node.create_timer(_DISCOVERY_PERIOD, self.discover)

    def discover(self) -> None:
        """Subscribe to topics that are new."""
        for topic, (type_name, *_) in self._node.get_topic_names_and_types():
            if topic in self._seen:
                continue
            offered = [info.qos_profile for info in self._node.get_publishers_info_by_topic(topic)]
            if offered:
                reliable = all(p.reliability == QoSReliabilityPolicy.RELIABLE for p in offered)
                latched = all(p.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL for p in offered)
                self._record(topic, type_name, reliable, latched)

    def describe(self, key: str, value: str) -> None:
        """Keep a text beside the messages, in `custom_data` of metadata.yaml."""
        self._writer.set_custom_data(key, value)

    def close(self) -> None:
        """Finish the bag.

        Raises:
            OSError: some of it could not be written.
        """
        self._closed = True
        self._node.destroy_timer(self._timer)
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._writer.close()
        if self.problem is not None:
            raise self.problem

    def _record(self, topic: str, type_name: str, reliable: bool, latched: bool = False) -> None:
        self._seen.add(topic)
        # Known first: a type that the network names must not decide what is imported.
        known = type_name in self._types.types
        message_type = _message_type(type_name) if known else None
        if message_type is None:
            return
        qos = QoSProfile(
            depth=50,
            reliability=_either(reliable, QoSReliabilityPolicy, "RELIABLE", "BEST_EFFORT"),
            durability=_either(latched, QoSDurabilityPolicy, "TRANSIENT_LOCAL", "VOLATILE"),
        )
        connection = self._writer.add_connection(
            topic,
            type_name,
            msgdef=definition(self._types, type_name),
            rihs01=self._types.hash_rihs01(type_name),
            offered_qos_profiles=[_recorded(reliable, latched)],
        )
        listener = self._listeners.get(topic)
        self.counts[topic] = 0
        latest = 0

        def on_message(data: bytes, info: MessageInfo) -> None:
            nonlocal latest
            if self._closed:
                return
            # The middleware's time: the executor may take the message later. One that was lost
            # and sent again came after those it is delivered before; a bag is read by time.
            received = latest = max(latest + 1, info["received_timestamp"])
            if self.problem is None:
                try:
                    self._writer.write(connection, received, data)
                    self.counts[topic] += 1
                except OSError as error:
                    self.problem = error
            if listener is not None:
                listener(deserialize_message(data, message_type), received * 1e-9)

        self._subscriptions.append(
            self._node.create_subscription(message_type, topic, on_message, qos, raw=True)
        )


def _either(condition: bool, policy: type, yes: str, no: str) -> Any:
    return getattr(policy, yes if condition else no)


def _message_type(name: str) -> type | None:
    """Class of a message; None if its package is not installed here."""
    package, _, message = name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), message, None)
    except ImportError:
        return None


def _recorded(reliable: bool, latched: bool) -> Qos:
    """The quality of service as the bag keeps it, so that a player offers it again."""
    forever = QosTime(2**31 - 1, 2**32 - 1)
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 10,
        reliability=_either(reliable, QosReliability, "RELIABLE", "BEST_EFFORT"),
        durability=_either(latched, QosDurability, "TRANSIENT_LOCAL", "VOLATILE"),
        deadline=forever,
        lifespan=forever,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=forever,
        avoid_ros_namespace_conventions=False,
    )
