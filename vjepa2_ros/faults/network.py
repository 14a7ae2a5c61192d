# SPDX-License-Identifier: Apache-2.0
"""A second host for encoder and planner: a network namespace of this machine, and its cable."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress

from vjepa2_ros.stack.process_group import Process, ProcessGroup

FAR = ("encoder_node", "planner_node")
"""Nodes on the other host."""
NETWORK = {
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
    # Shared memory would go past the cable: it is the same machine.
    "FASTDDS_BUILTIN_TRANSPORTS": "UDPv4",
}
"""Environment of the nodes on both hosts."""


class NetworkError(RuntimeError):
    """The second host cannot be made; the text says what is missing."""


def problem() -> str:
    """Why there can be no second host here; empty if there can."""
    if os.geteuid() != 0:
        return "it needs root"
    missing = [tool for tool in ("ip", "iptables") if shutil.which(tool) is None]
    return f"it needs {' and '.join(missing)}" if missing else ""


class Cable:
    """A cable to a network namespace, which can lose packets.

    Raises:
        NetworkError: it cannot be made.
    """

    def __init__(self) -> None:
        number = os.getpid()
        self.host = f"vjepa2-{number}"
        self._near, self._far = f"vj{number}n", f"vj{number}f"
        try:
            _run("ip", "netns", "add", self.host)
            _run("ip", "link", "add", self._near, "type", "veth", "peer", "name", self._far)
            _run("ip", "link", "set", self._far, "netns", self.host)
            _run("ip", "address", "add", "10.77.13.1/24", "dev", self._near)
            _run("ip", "-n", self.host, "address", "add", "10.77.13.2/24", "dev", self._far)
            _run("ip", "-n", self.host, "link", "set", "lo", "up")
            _run("ip", "link", "set", self._near, "up")
            _run("ip", "-n", self.host, "link", "set", self._far, "up")
            _run("ip", "-n", self.host, "route", "add", "224.0.0.0/4", "dev", self._far)
        except subprocess.CalledProcessError as error:
            self.close()
            raise NetworkError(f"no second host: {error.stderr.strip()}") from error

    def close(self) -> None:
        """Take the cable and the host away."""
        self._forget()
        for words in (("netns", "delete", self.host), ("link", "delete", self._near)):
            with suppress(subprocess.CalledProcessError):
                _run("ip", *words)

    def lose(self, share: float) -> None:
        """Lose a share of the packets from now on, in both directions: 1 cuts, 0 restores it."""
        self._forget()
        if share == 0.0:
            return
        match = ("-m", "statistic", "--mode", "random", "--probability", f"{share:.3f}")
        _run("iptables", "-I", "INPUT", "-i", self._near, *match, "-j", "DROP")
        _run("iptables", "-I", "OUTPUT", "-o", self._near, *match, "-j", "DROP")

    def _forget(self) -> None:
        """Remove the rules of this cable."""
        rules = _run("iptables", "-S").splitlines()
        for rule in rules:
            words = rule.split()
            if self._near in words:
                _run("iptables", "-D", *words[1:])


class TwoHosts(ProcessGroup):
    """A process group of which some run on the host at the other end of a cable.

    Args:
        cable: to the other host.
        arguments: as of a `ProcessGroup`.
    """

    def __init__(self, cable: Cable, **arguments) -> None:
        super().__init__(environment=NETWORK, **arguments)
        self._cable = cable

    def start(self, name: str, command: list[str], vital: bool = True) -> Process:
        """Start a process under a name, on its host."""
        there = ["ip", "netns", "exec", self._cable.host] if name in FAR else []
        return super().start(name, [*there, *command], vital)


def _run(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout
