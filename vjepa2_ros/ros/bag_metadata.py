# SPDX-License-Identifier: Apache-2.0
"""What a bag keeps of the stack beside its messages: parameters, versions, model, calibration.

Found by listening: from the nodes' diagnostics, their parameter services and the camera's info, so
that it is right also for a stack that somebody else has started.
"""

from __future__ import annotations

from typing import Any

import yaml
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rclpy.parameter_client import AsyncParameterClient
from sensor_msgs.msg import CameraInfo

from vjepa2_ros.ros.qos import LATEST
from vjepa2_ros.ros.recorder import Recorder
from vjepa2_ros.settings.stack import NODES

PARAMETERS, CALIBRATION, MODEL = "parameters", "calibration", "model"
"""Entries that are YAML: of all nodes, of the camera; name and fingerprint of the world model."""
_VERSIONS = ("version", "ros_distro", "rmw")


class BagMetadata:
    """Describes the stack of a namespace in a bag; all in the thread of the node's executor.

    Args:
        node: listens and asks.
        recorder: of the bag.
        namespace: of the stack.
    """

    def __init__(self, node: Node, recorder: Recorder, namespace: str) -> None:
        self._node, self._recorder = node, recorder
        self._prefix = namespace.rstrip("/") + "/"
        self._parameters: dict[str, dict[str, Any]] = {}
        # One for each node of ours, whatever names others report under.
        self._clients: dict[str, AsyncParameterClient] = {}
        self._asked: set[str] = set()
        info = f"{self._prefix}camera/camera_info"
        self._subscriptions = [
            node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 50),
            node.create_subscription(CameraInfo, info, self._on_info, LATEST),
        ]
        self._is_calibrated = False

    @property
    def described(self) -> list[str]:
        """Names of the nodes whose parameters are kept."""
        return sorted(self._parameters)

    def close(self) -> None:
        """Listen no more."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            name = status.name.removeprefix(self._prefix)
            if name == status.name or name not in NODES:
                continue
            values = {entry.key: entry.value for entry in status.values}
            for key in (*_VERSIONS, MODEL):
                if key in values:
                    self._recorder.describe(key, values[key])
            self._ask(name)

    def _ask(self, name: str) -> None:
        """Ask a node for its parameters, once; the next report of a node asks again until then."""
        if name in self._asked:
            return
        if name not in self._clients:
            self._clients[name] = AsyncParameterClient(self._node, self._prefix + name)
        client = self._clients[name]
        if client.services_are_ready():
            self._asked.add(name)
            listed = client.list_parameters()
            listed.add_done_callback(lambda done: self._get(name, done.result().result.names))

    def _get(self, name: str, names: list[str]) -> None:
        got = self._clients[name].get_parameters(names)
        got.add_done_callback(lambda done: self._keep(name, names, done.result().values))

    def _keep(self, name: str, names: list[str], values: list[Any]) -> None:
        plain = {key: _plain(parameter_value_to_python(value)) for key, value in
                 zip(names, values, strict=True)}  # fmt: skip
        self._parameters[name] = plain
        self._recorder.describe(PARAMETERS, yaml.safe_dump(self._parameters, sort_keys=True))

    def _on_info(self, message: CameraInfo) -> None:
        if self._is_calibrated:
            return
        self._is_calibrated = True
        calibration = {
            "width": message.width,
            "height": message.height,
            "distortion_model": message.distortion_model,
            "d": [float(value) for value in message.d],
            "k": [float(value) for value in message.k],
        }
        self._recorder.describe(CALIBRATION, yaml.safe_dump(calibration))


def _plain(value: Any) -> Any:
    """A parameter's value as plain YAML has it."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        return value
    return list(value)
