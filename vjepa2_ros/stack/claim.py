# SPDX-License-Identifier: Apache-2.0
"""One stack for each namespace and ROS domain on this machine.

The nodes of two stacks in one namespace answer to the same names, so that each of the two managers
would bring the other's nodes up and down. What starts a stack takes its name first.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
from collections.abc import Mapping


class StackRunningError(RuntimeError):
    """Another stack has the namespace; the text says what to do."""


def claim(
    namespace: str, environment: Mapping[str, str] = os.environ, side: str = "all"
) -> socket.socket:
    """Take a namespace for the stack that is about to be started.

    Args:
        namespace: of the nodes.
        environment: of the nodes, for their ROS domain.
        side: "gpu" for the part without a lifecycle manager, which may run beside the other one.

    Returns:
        Holds the namespace until it is closed or this process ends, however it ends.

    Raises:
        StackRunningError: another stack on this machine has it.
    """
    domain, namespace = environment.get("ROS_DOMAIN_ID") or "0", "/" + namespace.strip("/")
    # A socket without a file: it is the same one for all users and leaves nothing behind. The
    # digest, since such a name must be short.
    part = " gpu" if side == "gpu" else ""
    digest = hashlib.sha256(f"{domain} {namespace}{part}".encode()).hexdigest()
    holder = socket.socket(socket.AF_UNIX)
    try:
        holder.bind(f"\0vjepa2_ros/{digest}")
    except OSError as error:
        holder.close()
        if error.errno != errno.EADDRINUSE:
            raise
        raise StackRunningError(
            f"another stack runs in namespace {namespace}, ROS domain {domain}: stop it, or choose "
            "another namespace or ROS_DOMAIN_ID"
        ) from None
    return holder
