# SPDX-License-Identifier: Apache-2.0
"""The whole stack as processes, without `ros2 launch`: the demo, the tests and `vjepa2-ros up`."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vjepa2_ros.settings.files import NAMESPACE
from vjepa2_ros.stack.process_group import ProcessGroup

READY = "all nodes are active"
"""What lifecycle_manager prints once everything is up."""
SIMULATION = ("simulator_node", "controller_node", "encoder_node", "planner_node")
HARDWARE = ("controller_node", "camera_node", "encoder_node", "planner_node")
PROCESSES = (*dict.fromkeys((*SIMULATION, *HARDWARE)), "lifecycle_manager")
"""All processes there are; each reads the file of its name under config/."""
_WITH_MODEL = ("encoder_node", "planner_node")


def start_stack(
    group: ProcessGroup,
    nodes: tuple[str, ...] = SIMULATION,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    checkpoint: str | None = None,
    config: Mapping[str, Path] | None = None,
    namespace: str = NAMESPACE,
    stop: threading.Event | None = None,
) -> None:
    """Start a process for each node and the lifecycle manager, and wait until all are active.

    There is no deadline here: the lifecycle manager has its own, and ends when one has passed.

    nodes: in the order in which they come up.
    parameters: changes to the files, by node name.
    checkpoint: model of encoder and planner, if not the files'.
    config: parameter files to use instead of those under config/, by node name.
    stop: ends the wait.

    Raises ProcessGroupError with what the process said that did not come up.
    """
    parameters, config = parameters or {}, config or {}
    for name in nodes:
        changes = dict(parameters.get(name, {}))
        if checkpoint is not None and name in _WITH_MODEL:
            changes.setdefault("checkpoint", checkpoint)
        group.start_node(name, changes, config.get(name), namespace)
    changes = {"nodes": list(nodes), **parameters.get("lifecycle_manager", {})}
    group.start_node("lifecycle_manager", changes, config.get("lifecycle_manager"), namespace)
    group.wait_for_line("lifecycle_manager", READY, stop=stop)
