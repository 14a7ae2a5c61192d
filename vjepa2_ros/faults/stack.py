# SPDX-License-Identifier: Apache-2.0
"""A stack that faults are injected into: which nodes with which parameters, and whether it runs."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from vjepa2_ros.faults.fault import CLOCK, FRANKA, SLOW, TWO_HOSTS
from vjepa2_ros.faults.network import Cable, TwoHosts
from vjepa2_ros.settings.stack import managed_nodes
from vjepa2_ros.stack.process_group import ProcessGroup, ProcessGroupError
from vjepa2_ros.stack.start import start_stack

FRANKA_ADDRESS = "127.0.13.37"
"""Where the simulated cell serves the Franka control interface."""
SEED = 2
"""A scene that starts high above the table, where steps in any direction meet nothing."""
NAMESPACE = "/vjepa2"
SLOW_SPEED = 0.04
"""Speed of the arm where one step has to last longer than the planner may be silent [m/s]."""


def parameters(kind: str, overlap: bool = False) -> dict[str, dict[str, Any]]:
    """Parameters of the nodes of a kind of stack, by node.

    Args:
        kind: of the stack.
        overlap: whether it plans on while the arm moves.
    """
    simulator: dict[str, Any] = {"seed": SEED}
    controller: dict[str, Any] = {}
    planner: dict[str, Any] = {"patience": 0, "overlap": overlap}
    if overlap:
        # Half of the shipped number: more plans a second.
        planner["latent_quadratic.evaluations"] = 16
    if kind in (SLOW, TWO_HOSTS):
        simulator["max_speed"] = SLOW_SPEED
        planner["step_duration"] = 10.0
    elif kind == FRANKA:
        simulator["franka_server"] = FRANKA_ADDRESS
        controller = {
            "robot": "franka",
            "franka.host": FRANKA_ADDRESS,
            "franka.realtime": False,
            "franka.tool_offset": [0.0, 0.0, 0.05],
            # The repeats of one reflex must not add up to the reflexes that latch a fault.
            "franka.recovery_window": 8.0,
        }
    nodes = {"simulator_node": simulator, "controller_node": controller, "planner_node": planner}
    if kind == CLOCK:
        for name in managed_nodes("simulation"):
            nodes.setdefault(name, {})["use_sim_time"] = True
    return nodes


class FaultStack:
    """One stack after the other, each of a kind.

    Args:
        log: file for the output of the nodes.
        two_hosts: make a second host, for stacks of the kind TWO_HOSTS. The middleware looks for
            the network's interfaces once in a process, and then not again.
        overlap: have the stack plan on while the arm moves.

    Raises:
        NetworkError: there can be no second host.

    Attributes:
        cable: to the second host; None without one.
        kind: of the stack that runs; empty if none does.
        ended: when a process of it ended or hung [s, steady], and what is said of it.
    """

    def __init__(self, log: Path, two_hosts: bool = False, overlap: bool = False) -> None:
        self._log = open(log, "a", encoding="utf-8")
        self._overlap = overlap
        self.cable = Cable() if two_hosts else None
        self.kind = ""
        self.ended: tuple[float, str] | None = None
        self._group: ProcessGroup | None = None

    def close(self) -> None:
        """Stop the stack, and take the second host away."""
        self.stop()
        if self.cable is not None:
            self.cable.close()
        self._log.close()

    def start(self, kind: str) -> None:
        """Start all nodes and wait until they are active.

        Raises:
            ProcessGroupError: one of them ended.
        """
        self.kind, self.ended = kind, None
        if self.cable is not None:
            self._group = TwoHosts(self.cable, on_line=self.note)
        else:
            self._group = ProcessGroup(on_line=self.note)
        changes = parameters(kind, self._overlap)
        start_stack(self._group, managed_nodes("simulation"), changes, NAMESPACE)

    def stop(self) -> None:
        """Stop all nodes that still run."""
        if self._group is not None:
            for process in self._group.processes.values():
                # A process that was stopped does not take a SIGTERM.
                process.send(signal.SIGCONT)
            self._group.stop()
        self._group, self.kind = None, ""

    @property
    def running(self) -> bool:
        """Whether a stack was started and not stopped; a process of it may have ended."""
        return self._group is not None

    def check(self) -> None:
        """Note when a process of the stack has ended or hangs."""
        if self._group is None or self.ended is not None:
            return
        try:
            self._group.check()
        except ProcessGroupError as error:
            self.ended = time.monotonic(), str(error).splitlines()[0]

    def send_signal(self, node: str, number: int) -> None:
        """Send a signal to the process of a node."""
        assert self._group is not None
        self._group.processes[node].send(number)

    def processes(self) -> dict[str, int]:
        """Numbers of the processes of the stack, by node."""
        assert self._group is not None
        return {name: process.popen.pid for name, process in self._group.processes.items()}

    def note(self, name: str, line: str) -> None:
        """Write a line to the log."""
        # A full disk must not end a measurement of an hour.
        with suppress(OSError, ValueError):
            self._log.write(f"[{name}] {line}\n")
            self._log.flush()
