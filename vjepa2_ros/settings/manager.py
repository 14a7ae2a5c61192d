# SPDX-License-Identifier: Apache-2.0
"""Settings of lifecycle_manager."""

from __future__ import annotations

from dataclasses import dataclass

from vjepa2_ros.settings.declaration import Settings, setting


@dataclass(frozen=True)
class LifecycleManagerSettings(Settings):
    """The runner that brings the nodes up in order, and down with the robot first."""

    nodes: tuple[str, ...] = setting(
        ("simulator_node", "controller_node", "encoder_node", "planner_node"),
        "nodes in the order in which they come up",
    )
    discovery_timeout: float = setting(
        120.0,
        "longest wait for a node's process to appear; on a slow machine its imports take a minute",
        "s", 0.1, 600.0,
    )  # fmt: skip
    listening_time: float = setting(
        2.0, "how long other stacks are listened for before any node is touched; longer on a busy "
        "machine or a slow network",
        "s", 0.1, 60.0,
    )  # fmt: skip
    transition_timeout: float = setting(
        120.0, "longest wait for a transition; loading a large model takes minutes",
        "s", 0.1, 3600.0,
    )  # fmt: skip
    heartbeat_timeout: float = setting(
        5.0, "longest silence of a node while all are up; then all are brought down",
        "s", 1.5, 600.0,
    )  # fmt: skip
    shutdown_timeout: float = setting(
        5.0, "longest wait for each transition during shutdown", "s", 0.1, 600.0
    )
