# SPDX-License-Identifier: Apache-2.0
"""Records every topic into an MCAP bag, as `ros2 bag record --all` does where it is to be had.

Messages are written as they come over the wire, without decoding them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

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
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from vjepa2_ros.share import share_directory

_DISCOVERY_PERIOD = 0.5


def typestore() -> Typestore:
    """Message types of ROS 2 and of this package, to write and to read bags with."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for path in sorted((share_directory() / "msg").glob("*.msg")):
        store.register(get_types_from_msg(path.read_text(), f"vjepa2_ros/msg/{path.stem}"))
    return store


class Recorder:
    """Subscribes to every topic that appears and writes what comes; closed, the bag is complete.

    listeners: called with (message, receive time in seconds) for topics of interest, by full name.
    counts: messages written so far by topic.

    All in the thread of the node's executor but `close`, which needs the executor at rest.
    """

    def __init__(
        self,
        node: Node,
        folder: Path,
        listeners: Mapping[str, Callable[[Any, float], None]],
    ) -> None:
        self._node = node
        self._listeners = listeners
        self._types = typestore()
        self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        self._seen: set[str] = set()
        self.counts: dict[str, int] = {}
        self._timer = node.create_timer(_DISCOVERY_PERIOD, self.discover)

    def discover(self) -> None:
        """Subscribe to topics that are new."""
        for topic, (type_name, *_) in self._node.get_topic_names_and_types():
            publishers = self._node.get_publishers_info_by_topic(topic)
            if topic in self._seen or not publishers or type_name not in self._types.types:
                continue
            self._seen.add(topic)
            self._subscribe(topic, type_name, [entry.qos_profile for entry in publishers])

    def close(self) -> None:
        """Finish the bag."""
        self._node.destroy_timer(self._timer)
        self._writer.close()

    def _subscribe(self, topic: str, type_name: str, offered: list[QoSProfile]) -> None:
        reliable = all(p.reliability == QoSReliabilityPolicy.RELIABLE for p in offered)
        latched = all(p.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL for p in offered)
        qos = QoSProfile(
            depth=50,
            reliability=_either(reliable, QoSReliabilityPolicy, "RELIABLE", "BEST_EFFORT"),
            durability=_either(latched, QoSDurabilityPolicy, "TRANSIENT_LOCAL", "VOLATILE"),
        )
        connection = self._writer.add_connection(
            topic,
            type_name,
            typestore=self._types,
            offered_qos_profiles=[_recorded(reliable, latched)],
        )
        message_type = _message_type(type_name)
        listener = self._listeners.get(topic)
        self.counts[topic] = 0

        def on_message(data: bytes) -> None:
            now = self._node.get_clock().now().nanoseconds
            self._writer.write(connection, now, data)
            self.counts[topic] += 1
            if listener is not None:
                listener(deserialize_message(data, message_type), now * 1e-9)

        self._node.create_subscription(message_type, topic, on_message, qos, raw=True)


def _either(condition: bool, policy: type, yes: str, no: str) -> Any:
    return getattr(policy, yes if condition else no)


def _message_type(name: str) -> type:
    package, _, message = name.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), message)


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
