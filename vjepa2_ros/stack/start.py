# SPDX-License-Identifier: Apache-2.0
"""The whole stack as processes, without `ros2 launch`: the demo, the tests and `vjepa2-ros up`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vjepa2_ros.ros.deadlines import Deadlines
from vjepa2_ros.settings.declaration import SettingsError, build
from vjepa2_ros.settings.files import NAMESPACE
from vjepa2_ros.settings.stack import (
    MANAGER,
    NODES,
    READY,
    check_robot,
    managed_nodes,
    nodes_of_side,
)
from vjepa2_ros.stack.claim import StackRunningError, claim
from vjepa2_ros.stack.process_group import ProcessGroup, ProcessGroupError
from vjepa2_ros.stack.shared_memory import remove_abandoned


def start_stack(
    group: ProcessGroup,
    nodes: Iterable[str] = managed_nodes("simulation"),
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    namespace: str = NAMESPACE,
    stop: threading.Event | None = None,
    on_started: Callable[[], None] | None = None,
    side: str = "all",
    watchers: Iterable[str] = (),
) -> None:
    """Start a process for each node and the lifecycle manager, and wait until all are active.

    Of a stack on two hosts only one side is started. The lifecycle manager belongs to that of the
    robot, and brings up the nodes of both; without it there is nothing to wait for.

    There is no deadline here: the lifecycle manager has its own, and ends when one has passed. From
    then on `group.check` also notices a lifecycle manager that hangs.

    Args:
        group: ends the processes.
        nodes: managed nodes in the order in which they come up.
        parameters: values that differ from the declared defaults, by node.
        namespace: of the nodes.
        stop: ends the wait.
        on_started: called when the nodes' processes have been started, before the lifecycle manager
            configures them.
        side: "all", "robot" or "gpu".
        watchers: nodes that are started once all are active, and whose end ends nothing.

    Raises:
        ProcessGroupError: another stack runs in the namespace, or a real robot would move by
            simulated images, and nothing was started; or a process ended or hangs, with what it
            said.
    """
    nodes, parameters = list(nodes), dict(parameters or {})
    parameters[MANAGER] = {"nodes": nodes, **parameters.get(MANAGER, {})}
    try:
        check_robot(nodes_of_side(nodes, side), parameters)
    except SettingsError as error:
        raise ProcessGroupError(str(error)) from None
    try:
        group.at_end(claim(namespace, group.environment, side).close)
    except StackRunningError as error:
        raise ProcessGroupError(str(error)) from None
    remove_abandoned()
    deadlines = Deadlines.of(build(NODES[MANAGER].settings, parameters[MANAGER]))
    group.stop_timeout, group.kill_timeout = deadlines.terminate, deadlines.kill
    for name in nodes_of_side(nodes, side):
        group.start_node(name, parameters.get(name), namespace, deadlines.wind_down)
    if on_started is not None:
        on_started()
    watching = nodes_of_side(watchers, side)
    if side == "gpu":
        _start_watchers(group, watching, parameters, namespace)
        return
    group.watch(MANAGER)
    group.start_node(MANAGER, parameters[MANAGER], namespace, deadlines.wind_down)
    group.wait_for_line(MANAGER, READY, stop=stop)
    _start_watchers(group, watching, parameters, namespace)


def _start_watchers(
    group: ProcessGroup,
    names: Iterable[str],
    parameters: Mapping[str, Mapping[str, Any]],
    namespace: str,
) -> None:
    for name in names:
        group.start_node(name, parameters.get(name), namespace, vital=False)


def start_panel(group: ProcessGroup, namespace: str = NAMESPACE) -> None:
    """Serve the page in the browser beside a stack that is up; its end ends nothing."""
    command = [sys.executable, "-m", "vjepa2_ros.cli.main", "panel", "--namespace", namespace]
    group.start("panel", command, vital=False)
