# SPDX-License-Identifier: Apache-2.0
"""Which programs can reach the nodes of a stack over the network, and so move its robot."""

from __future__ import annotations

import os
from collections.abc import Mapping

from vjepa2_ros.share import share_directory

DISCOVERY_RANGE = "ROS_AUTOMATIC_DISCOVERY_RANGE"
_THIS_MACHINE = "LOCALHOST"
# Where one of these is set, somebody has decided on the range.
_DECIDES = (DISCOVERY_RANGE, "ROS_LOCALHOST_ONLY", "ROS_STATIC_PEERS", "ROS_DISCOVERY_SERVER")
PROFILES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
"""Name of the file with the profiles of Fast DDS 3, which warns of that of 2, and of 2."""
_WITH_FAST_DDS_2 = ("humble", "jazzy")
_WHO = {
    "OFF": "no other process",
    _THIS_MACHINE: "every program of this ROS domain on this machine",
    "SUBNET": "every program of this ROS domain on every network of this machine",
    "SYSTEM_DEFAULT": "what the middleware's own configuration says",
}


def on_this_machine(
    rmw: str, ros_distro: str, environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """What keeps nodes on this machine; nothing where the user has decided otherwise.

    With Fast DDS it is a profile of ours, without the shared memory that ROS would add; see
    `config/fastdds_this_machine.xml`.

    Args:
        rmw: name of the middleware.
        ros_distro: name of the distribution, which tells the version of Fast DDS.
        environment: of the nodes.
    """
    if any(environment.get(name) for name in _DECIDES):
        return {}
    if not rmw.startswith("rmw_fastrtps") or any(environment.get(name) for name in PROFILES):
        return {DISCOVERY_RANGE: _THIS_MACHINE}
    profile = str(share_directory() / "config" / "fastdds_this_machine.xml")
    variable = PROFILES[1] if ros_distro in _WITH_FAST_DDS_2 else PROFILES[0]
    return {DISCOVERY_RANGE: "SYSTEM_DEFAULT", variable: profile}


def network_report(rmw: str, environment: Mapping[str, str] = os.environ) -> str:
    """Says who can reach nodes that are started in this environment, and how to narrow that.

    Args:
        rmw: name of the middleware.
        environment: of the nodes.
    """
    reach = environment.get(DISCOVERY_RANGE) or "SUBNET"
    if environment.get("ROS_LOCALHOST_ONLY") == "1":
        reach = _THIS_MACHINE
    peers = environment.get("ROS_STATIC_PEERS", "")
    secured = environment.get("ROS_SECURITY_ENABLE", "").lower() == "true"
    enforced = secured and environment.get("ROS_SECURITY_STRATEGY") == "Enforce"
    lines = [
        f"network: ROS domain {environment.get('ROS_DOMAIN_ID') or 0}, discovery range {reach}"
        + (f", peers {peers}" if peers else "")
        + f", {rmw}, SROS 2 "
        + ("enforced" if enforced else "on, but not enforced" if secured else "off"),
    ]
    if not enforced:
        who = _WHO.get(reach, f"whom the range {reach} lets in")
        lines.append(
            f"  {who}{f' and on {peers}' if peers else ''} can stop, command and listen to this "
            "robot. To narrow that, set before the start, on all hosts of the stack:"
        )
        if reach not in ("OFF", _THIS_MACHINE):
            lines.append(f"    {DISCOVERY_RANGE}={_THIS_MACHINE}   this machine only")
            lines.append(
                f"    {DISCOVERY_RANGE}={_THIS_MACHINE} ROS_STATIC_PEERS='HOST;HOST'   named hosts"
            )
        lines.append("    ROS_DOMAIN_ID=NUMBER   a domain of its own")
        lines.append("    ROS_SECURITY_…   SROS 2, see `vjepa2-ros security --help`")
    return "\n".join(lines)
