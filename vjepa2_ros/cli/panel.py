# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros panel`: a page in the browser to watch a running stack and to set goals."""

from __future__ import annotations

import argparse
import socket
import sys
import time
from collections.abc import Sequence

from vjepa2_ros.cli.arguments import namespace, positive_integer
from vjepa2_ros.ros.deadlines import END_WITH_PARENT_OPTION

HOST, PORTS = "127.0.0.1", range(8080, 8100)
"""Where the page is served by default: at the first of these ports that is free."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "--host",
        default=HOST,
        help="address that the page is served at; with another one than 127.0.0.1 whoever reaches "
        f"this machine can set goals and stop the robot (default: {HOST})",
    )
    parser.add_argument(
        "--port",
        type=positive_integer,
        help=f"of the page (default: the first free one from {PORTS[0]} on)",
    )
    parser.add_argument(
        "--compressed", action="store_true", help="take the camera's images as JPEG"
    )
    parser.add_argument(
        "--namespace", type=namespace, default="/vjepa2", help="namespace of the stack"
    )
    # For the launch file: a `ros2 launch` that is killed leaves no page that nobody knows of.
    parser.add_argument(END_WITH_PARENT_OPTION, action="store_true", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C; 1 if it cannot be served."""
    from vjepa2_ros.ros.signals import end_with_parent, stop_on_signal

    stop = stop_on_signal()
    if args.end_with_parent:
        end_with_parent()
    try:
        port = _free_port(args.host, PORTS if args.port is None else [args.port])
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    from vjepa2_ros.panel.page import PERIOD, Page
    from vjepa2_ros.panel.serving import serve_page
    from vjepa2_ros.ros.context import RosError
    from vjepa2_ros.stack.link import StackLink

    try:
        with StackLink(args.namespace, args.compressed) as link:
            server = serve_page(args.host, port)
            # It takes another one where this was taken in the meantime.
            served = server.get_port()
            if served != port and args.port is not None:
                server.stop()
                print(f"port {port} was taken; choose another --port", file=sys.stderr)
                return 1
            page = Page(server, link)
            print(f"the page is at http://{args.host}:{served}", flush=True)
            while not stop.wait(PERIOD):
                page.update(time.monotonic())
            server.stop()
    except RosError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _free_port(host: str, ports: Sequence[int]) -> int:
    """The first port that a page can be served at: the server itself would go on to the next.

    Raises:
        OSError: there is none; the text says why, and what to do.
    """
    problem: Exception | None = None
    for port in ports:
        try:
            with socket.create_server((host, port)):
                return port
        except (OSError, OverflowError) as error:
            problem = error
    raise OSError(f"cannot serve at {host}:{port}: {problem}; choose another --port or --host")
