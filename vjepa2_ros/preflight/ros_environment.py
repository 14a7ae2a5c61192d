# SPDX-License-Identifier: Apache-2.0
"""What ROS is told by the environment, and which computers are there."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Mapping

from vjepa2_ros.preflight.finding import Finding, fail, ok, warn

LOCALHOST = "LOCALHOST"
"""The range of discovery that finds nodes of this computer only."""


def environment_findings(environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Distribution and the variables by which nodes find each other."""
    distribution = environment.get("ROS_DISTRO", "")
    if importlib.util.find_spec("rclpy") is None:
        advice = "source /opt/ros/DISTRO/setup.bash, or run `make setup`"
        findings = [fail("distribution", distribution or "no ROS 2 is found", advice)]
    else:
        findings = [ok("distribution", distribution or "ROS_DISTRO is not set: rclpy of a wheel")]
    middleware = environment.get("RMW_IMPLEMENTATION", "")
    domain = environment.get("ROS_DOMAIN_ID", "")
    discovery = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "")
    findings.append(
        ok(
            "middleware",
            f"RMW_IMPLEMENTATION {middleware or 'not set: the default one'}",
            "the same on every computer",
        )
    )
    if domain:
        findings.append(ok("domain", f"ROS_DOMAIN_ID {domain}", "the same on every computer"))
    else:
        findings.append(
            warn(
                "domain",
                "ROS_DOMAIN_ID not set: 0, which everybody has",
                "set a number of your own (1 to 101), the same on every computer of the cell",
            )
        )
    text = f"ROS_AUTOMATIC_DISCOVERY_RANGE {discovery or 'not set: the network of this computer'}"
    if discovery == LOCALHOST:
        advice = "SUBNET, if nodes run on another computer"
    else:
        advice = "LOCALHOST, if all nodes run on this computer"
    findings.append(ok("discovery", text, advice))
    return findings


def instances(values: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """Nodes by the host that they run on.

    Args:
        values: pairs of a node's name and its `instance` (host:process:number) of /diagnostics.
    """
    found: dict[str, set[str]] = {}
    for name, instance in values:
        host = instance.split(":")[0]
        if host:
            found.setdefault(host, set()).add(name)
    return found


def hosts_finding(hosts: Mapping[str, set[str]], here: str) -> Finding:
    """Which computers run nodes of this package.

    Args:
        hosts: nodes by host.
        here: name of this computer.
    """
    if not hosts:
        return ok(
            "hosts",
            "no node is running",
            "start the nodes of the other computers, then look here whether they are seen",
        )
    parts = []
    for host in sorted(hosts):
        name = f"{host} (this one)" if host == here else host
        parts.append(f"{name}: {', '.join(sorted(hosts[host]))}")
    return ok("hosts", "; ".join(parts))
