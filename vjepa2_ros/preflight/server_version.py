# SPDX-License-Identifier: Apache-2.0
"""Which version of the Franka control interface the robot speaks, and the franky that fits.

libfranka refuses a robot of another version, and franky's wheels hold one libfranka each. The
version is therefore asked for without franky: every server answers a request to connect with its
own version, also where it refuses it.
"""

from __future__ import annotations

import socket
import struct
from importlib import metadata
from pathlib import Path

from vjepa2_ros.preflight.finding import Finding, fail, ok
from vjepa2_ros.preflight.network import ARM_PORT, TIMEOUT

FRANKY = "franky-control"
"""Name of franky's package."""
_SUPPORTED = range(2, 11)
"""Versions of the server for which franky has wheels (its installation instructions)."""
_FR3 = 6  # the first version of an FR3's server; a Panda's are below
_INDEX = "https://timschneider42.github.io/franky/whl/by-robot-server-version/{}/"
_CONNECT = 0  # the command
_HEADER = struct.Struct("<III")  # command, number of the request, bytes of the message
_REQUEST = struct.Struct("<HH")  # version of the client, its UDP port
_RESPONSE = struct.Struct("<HH")  # status, version of the server


class ServerVersionError(RuntimeError):
    """What listens there does not answer as a Franka control interface does."""


def read_server_version(host: str, port: int = ARM_PORT, timeout: float = TIMEOUT) -> int:
    """Ask the arm's server for its version.

    Raises:
        ServerVersionError: there is no answer in time, or it is something else.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as states:
        # A server that accepts sends its states here until the connection is closed.
        states.bind(("", 0))
        request = _REQUEST.pack(_SUPPORTED[-1], states.getsockname()[1])
        header = _HEADER.pack(_CONNECT, 1, _HEADER.size + len(request))
        try:
            with socket.create_connection((host, port), timeout) as connection:
                connection.settimeout(timeout)
                connection.sendall(header + request)
                command, _, size = _HEADER.unpack(_receive(connection, _HEADER.size))
                if command != _CONNECT or size < _HEADER.size + _RESPONSE.size:
                    raise ServerVersionError("the answer is not one to a request to connect")
                _, version = _RESPONSE.unpack(_receive(connection, _RESPONSE.size))
        except OSError as error:
            raise ServerVersionError(f"no answer: {error.strerror or error}") from error
    return version


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ServerVersionError("the connection was closed instead of an answer")
        data += part
    return data


def arm_of(version: int | None) -> str:
    """Name of the arm in `JOINT_LIMITS` that has a server of this version; None: unknown."""
    return "panda" if version is not None and version < _FR3 else "fr3"


def install_line(version: int) -> str:
    """What installs the franky that speaks this version; empty where there is none."""
    if version not in _SUPPORTED:
        return ""
    # Without --upgrade, the wheel of another version that is installed already would do.
    return f'pip install --upgrade {FRANKY} --extra-index-url "{_INDEX.format(version)}"'


def installed_franky() -> str:
    """Versions of the installed franky and of the libfranka inside it; empty if there is none."""
    try:
        distribution = metadata.distribution(FRANKY)
    except metadata.PackageNotFoundError:
        return ""
    for file in distribution.files or ():
        if file.name.startswith("libfranka-") and ".so." in file.name:
            return f"{distribution.version} (libfranka {Path(file.name).name.split('.so.')[1]})"
    return distribution.version


def version_finding(version: int, installed: str, incompatible: bool) -> Finding:
    """Judge whether the installed franky fits.

    Args:
        version: of the server.
        installed: see `installed_franky`.
        incompatible: whether it was refused by this server.
    """
    line = install_line(version)
    text = f"the robot speaks version {version}"
    if not line:
        advice = (
            f"franky has wheels for {_SUPPORTED[0]} to {_SUPPORTED[-1]}: update the system of the "
            "robot in Desk, or see whether there is a newer franky"
        )
    else:
        advice = f"install the franky of this version: {line}"
    if not installed:
        return fail("server version", f"{text}, franky is not installed", advice)
    if incompatible:
        return fail("server version", f"{text}, franky {installed} another one", advice)
    return ok("server version", f"{text}, and so does franky {installed}")
