# SPDX-License-Identifier: Apache-2.0
"""Who may talk to the server of the page."""

import socket

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from vjepa2_ros.panel.serving import is_own_page, serve_page


@pytest.mark.parametrize(
    "origin, host, own",
    [
        ("http://127.0.0.1:8080", "127.0.0.1:8080", True),
        ("http://localhost:8080", "localhost:8080", True),
        ("http://192.168.1.7:8080", "192.168.1.7:8080", True),
        ("http://[::1]:8080", "[::1]:8080", True),
        (None, "127.0.0.1:8080", True),
        (f"http://{socket.gethostname()}:8080", f"{socket.gethostname()}:8080", True),
        # A page of another site, of another server on this machine, of a file.
        ("https://example.org", "127.0.0.1:8080", False),
        ("http://127.0.0.1:3000", "127.0.0.1:8080", False),
        ("null", "127.0.0.1:8080", False),
        # A name that its owner has lead here.
        ("http://example.org:8080", "example.org:8080", False),
        (None, "example.org:8080", False),
        ("", "", False),
    ],
)
def test_only_a_page_of_this_server_is_its_own(origin, host, own):
    assert is_own_page(origin, host) is own


def test_a_page_of_another_site_cannot_connect():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = serve_page("127.0.0.1", port)
    try:
        url, protocols = f"ws://127.0.0.1:{port}", ["viser-v1.1.1"]
        with connect(url, origin=f"http://127.0.0.1:{port}", subprotocols=protocols) as own:
            assert own.recv(10)
        with pytest.raises(InvalidStatus) as caught:
            connect(url, origin="https://example.org", subprotocols=protocols)
        assert caught.value.response.status_code == 403
    finally:
        server.stop()
