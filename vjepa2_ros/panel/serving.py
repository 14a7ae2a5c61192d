# SPDX-License-Identifier: Apache-2.0
"""The server of the page, which talks to its own page alone.

A browser lets any web site connect to a server on the same machine. So a connection that names an
origin has to come from a page of this server, which is named by an address or by this machine's
name: another name could be made to lead here by whoever owns it.
"""

from __future__ import annotations

import inspect
import ipaddress
import logging
import socket
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import viser
import websockets.asyncio.server
from viser import _messages


def serve_page(host: str, port: int) -> viser.ViserServer:
    """Serve a page.

    Args:
        host: address that it is served at.
        port: of the page.
    """
    serve = websockets.asyncio.server.serve
    # It reports with a traceback what connects without a request, such as a look at the port.
    logging.getLogger("websockets.server").setLevel(logging.CRITICAL)

    def serve_own_page(*arguments: Any, process_request: Any, **named: Any) -> Any:
        async def checked(connection: Any, request: Any) -> Any:
            headers = request.headers
            if not is_own_page(headers.get("Origin"), headers.get("Host", "")):
                return connection.respond(403, "this page is not of this server\n")
            answer = process_request(connection, request)
            return await answer if inspect.isawaitable(answer) else answer

        return serve(*arguments, process_request=checked, **named)

    # viser has no option for it; it starts its server within the constructor.
    with patch.object(websockets.asyncio.server, "serve", serve_own_page):
        server = viser.ViserServer(host, port, label="vjepa2_ros", verbose=False)
    # Any client could have the page published under an address of viser's makers.
    server._websock_server.unregister_handler(_messages.ShareUrlRequest)
    return server


def is_own_page(origin: str | None, host: str) -> bool:
    """Whether a connection comes from a page of this server.

    Args:
        origin: what the browser names as the page's; None from what is no browser.
        host: what the client names as this server.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if not _is_this_machine(name):
        return False
    return origin is None or urlsplit(origin).netloc == host


def _is_this_machine(name: str) -> bool:
    """Whether a name is an address, or this machine's own name."""
    try:
        ipaddress.ip_address(name)
        return True
    except ValueError:
        own = socket.gethostname().lower()
        return name.lower() in ("localhost", own, f"{own}.local")
