# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros security`: keys and permissions, so that only the stack's own nodes take part."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from vjepa2_ros.cli.arguments import namespace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "--keystore",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of keys and permissions; keys that are there already are kept",
    )
    parser.add_argument(
        "--namespace", type=namespace, default="/vjepa2", help="namespace of the nodes"
    )


def run(args: argparse.Namespace) -> int:
    """Make the keystore and print how to use it; 1 if it could not be made."""
    from vjepa2_ros.stack.security import SecurityError, create

    keystore = args.keystore.expanduser().absolute()
    try:
        enclaves = create(keystore, args.namespace)
    except SecurityError as error:
        print(error, file=sys.stderr)
        return 1
    domain = os.environ.get("ROS_DOMAIN_ID") or "0"
    print(f"enclaves for ROS domain {domain} in {keystore}: {', '.join(enclaves)}")
    print(
        "for every shell that starts nodes or sends goals:\n"
        f"  export ROS_DOMAIN_ID={domain} ROS_SECURITY_KEYSTORE={keystore}\n"
        "  export ROS_SECURITY_ENABLE=true ROS_SECURITY_STRATEGY=Enforce\n"
        f"on another host: copy {keystore} without its folder `private`"
    )
    return 0
