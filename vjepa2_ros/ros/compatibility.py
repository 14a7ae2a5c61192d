# SPDX-License-Identifier: Apache-2.0
"""Whether the nodes of a stack fit together where they run on two hosts.

A message of another version or distribution is lost without a word, and ages of images and commands
are differences of stamps. So each node puts what it is built from and the time into its heartbeat,
and the lifecycle manager compares them with its own before it brings the node up.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from xml.etree import ElementTree

from rclpy.utilities import get_rmw_implementation_identifier

from vjepa2_ros.share import share_directory

MAX_CLOCK_OFFSET = 0.1
"""Largest difference of two clocks [s]."""
CLOCK_SAMPLES = 3
"""Fewest heartbeats of another host to compare the clocks by: each was on its way for a while."""
MOST_CLOCK_SAMPLES = 5
"""Heartbeats after which clocks that seem to differ are refused."""
BOOT = "boot"
"""Entry of the diagnostics by which processes with one clock know each other, see `boot`."""
_DISTRIBUTIONS = {"3": "humble", "7": "jazzy", "9": "kilted"}
_REMEDIES = {
    "ros_distro": "install the same ROS 2 distribution on both hosts",
    "rmw": "set the same RMW_IMPLEMENTATION on both hosts",
    "version": "install the same version of vjepa2_ros on both hosts",
    "interfaces": "install the same version of vjepa2_ros on both hosts, and build its messages",
}


@cache
def own_build() -> Mapping[str, str]:
    """What this process is built from: `ros_distro`, `rmw`, `version`, `interfaces`."""
    package = ElementTree.parse(share_directory() / "package.xml")
    return {
        "ros_distro": _distribution(),
        "rmw": get_rmw_implementation_identifier(),
        "version": package.findtext("version") or "",
        "interfaces": _interfaces(),
    }


@cache
def boot() -> str:
    """Names the running kernel: a host name may be the same on two machines, and two in one."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identity() -> dict[str, str]:
    """What every node puts into its diagnostics for the lifecycle manager to compare."""
    return {**own_build(), BOOT: boot()}


def build_problem(own: Mapping[str, str], other: Mapping[str, str]) -> str:
    """Why two processes do not fit together, and what to do; empty if they do.

    Args:
        own: of this process, see `own_build`.
        other: the same entries of the other one, among others.
    """
    return "; ".join(
        f"its {name} is {other.get(name) or 'unknown'}, here it is {value}: {_REMEDIES[name]}"
        for name, value in own.items()
        if other.get(name) != value
    )


def clock_problem(offset: float) -> str:
    """Why two clocks do not fit together, and what to do; empty if they do.

    Args:
        offset: smallest of several differences between the time at which a stamp was received and
            the stamp [s], so that the time on the way counts as little as possible.
    """
    if abs(offset) <= MAX_CLOCK_OFFSET:
        return ""
    side = "behind" if offset > 0 else "ahead"
    return (
        f"its clock is {abs(offset):.2f} s {side}, at most {MAX_CLOCK_OFFSET} s are allowed, since "
        "ages of images and commands are measured by stamps: synchronise the clocks of both hosts "
        "(chrony or PTP), and give all nodes the same use_sim_time"
    )


def _distribution() -> str:
    """Name of the ROS 2 distribution, by the version of rclpy: the environment may be another's."""
    try:
        major = version("rclpy").partition(".")[0]
    except PackageNotFoundError:
        major = ""
    return _DISTRIBUTIONS.get(major) or os.environ.get("ROS_DISTRO") or f"rclpy {major}"


def _interfaces() -> str:
    """Digest of all messages and services, without their comments."""
    digest = hashlib.sha256()
    for kind in ("msg", "srv"):
        for file in sorted((share_directory() / kind).glob(f"*.{kind}")):
            digest.update(file.name.encode())
            for line in file.read_text().splitlines():
                digest.update(" ".join(line.partition("#")[0].split()).encode())
    return digest.hexdigest()[:12]
