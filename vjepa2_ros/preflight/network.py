# SPDX-License-Identifier: Apache-2.0
"""Whether the control unit of the robot answers."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass

from vjepa2_ros.preflight.finding import Finding, fail, ok, warn

ARM_PORT = 1337
GRIPPER_PORT = 1338
TIMEOUT = 2.0
"""For a connection [s]."""
_ROUND_TRIP = 0.001
_KERNEL_RTT = struct.Struct("68xI")  # tcpi_rtt of Linux' struct tcp_info [µs]
_PORTS = {ARM_PORT: "arm", GRIPPER_PORT: "gripper"}


@dataclass(frozen=True)
class Answer:
    """What came back from a port.

    Attributes:
        seconds: of the round trip; where there is no connection, until the answer.
        error: why there is no connection; empty where there is one.
        host_is_there: whether the host has answered, be it with a refusal.
    """

    seconds: float
    error: str = ""
    host_is_there: bool = True


def knock(host: str, port: int, timeout: float = TIMEOUT) -> Answer:
    """Open a TCP connection and close it again.

    Once only: connections that a busy server has not accepted yet would keep others out.
    """
    begin = time.perf_counter()
    try:
        with socket.create_connection((host, port), timeout) as connection:
            # As the kernel measured it: this program may have been waiting for a processor.
            size = _KERNEL_RTT.size
            information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)
            return Answer(1e-6 * _KERNEL_RTT.unpack(information)[0])
    except ConnectionRefusedError:
        return Answer(time.perf_counter() - begin, "refused")
    except TimeoutError:
        return Answer(timeout, f"no answer within {timeout:g} s", False)
    except OSError as error:
        return Answer(time.perf_counter() - begin, error.strerror or str(error), False)


def answers(host: str, timeout: float = TIMEOUT) -> dict[int, Answer]:
    """What comes back from the ports of the Franka control interface, asked at once."""
    pool = ThreadPoolExecutor(len(_PORTS))
    waiting = {port: pool.submit(knock, host, port, timeout) for port in _PORTS}
    # Looking up a name knows no timeout.
    deadline = time.monotonic() + 2 * timeout
    found = {}
    for port, future in waiting.items():
        try:
            found[port] = future.result(max(0.0, deadline - time.monotonic()))
        except FutureTimeoutError:
            found[port] = Answer(timeout, "its name is not found in time", False)
    pool.shutdown(wait=False, cancel_futures=True)
    return found


def network_findings(host: str, ports: Mapping[int, Answer]) -> list[Finding]:
    """Judge the answers of the ports."""
    if not any(answer.host_is_there for answer in ports.values()):
        return [
            fail(
                "host",
                f"{host}: {ports[ARM_PORT].error}",
                "switch the control unit on, plug the cable into its network port (not the arm's), "
                "give this computer an address in the same network, and check with "
                f"`ping {host}`; the address is in Desk under Settings, Network",
            )
        ]
    seconds = min(answer.seconds for answer in ports.values() if answer.host_is_there)
    findings = [ok("host", f"{host} answers")]
    for port, name in _PORTS.items():
        findings.append(_port_finding(f"port {port} ({name})", port, ports[port]))
    text = f"{1e3 * seconds:.3f} ms for a TCP handshake"
    if seconds > _ROUND_TRIP:
        findings.append(
            warn(
                "round trip",
                f"{text}, more than {1e3 * _ROUND_TRIP:g} ms",
                "connect this computer to the control unit by a cable of its own, without switch, "
                "VPN or wireless",
            )
        )
    else:
        findings.append(ok("round trip", text))
    return findings


def _port_finding(check: str, port: int, answer: Answer) -> Finding:
    if not answer.error:
        return ok(check, "open")
    if port == ARM_PORT:
        advice = "unlock the brakes and activate FCI in Desk; end another program that uses it"
    else:
        advice = "set the Franka Hand as end effector in Desk and switch it on (Desk, Settings)"
    return fail(check, answer.error, advice)
