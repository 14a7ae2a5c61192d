# SPDX-License-Identifier: Apache-2.0
"""Whether this computer can answer the robot every millisecond, and has the right time."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
from dataclasses import dataclass
from pathlib import Path

from vjepa2_ros.preflight.finding import Finding, fail, ok, skipped, warn

_INSTALL = "https://frankarobotics.github.io/docs (real-time kernel)"
_PRIORITY = 99  # as Franka's instructions have it
_MEMLOCK = 102400 * 1024
_UNSYNCHRONISED = 0x40  # STA_UNSYNC of adjtimex(2)
_GOVERNORS = "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"


def kernel_finding(enforce: bool, root: Path = Path("/"), version: str = "") -> Finding:
    """Whether the kernel is one with PREEMPT_RT.

    Args:
        enforce: franky refuses to move the robot otherwise.
        root: of the file system.
        version: of the kernel, as `uname -v` prints it (empty: of this one).
    """
    try:
        is_realtime = (root / "sys/kernel/realtime").read_text().strip() == "1"
    except OSError:
        is_realtime = False
    is_realtime = is_realtime or "PREEMPT_RT" in (version or platform.version())
    text = f"{platform.release()}, {'with' if is_realtime else 'without'} PREEMPT_RT"
    if is_realtime:
        return ok("real-time kernel", text)
    advice = f"install a kernel with PREEMPT_RT: {_INSTALL}"
    if enforce:
        return fail("real-time kernel", text, f"{advice}; or use `--realtime ignore` for a trial")
    return warn("real-time kernel", text, f"{advice}, or motions may be aborted")


def limit_findings(
    enforce: bool, priority: int | None = None, memory: int | None = None, user: int | None = None
) -> list[Finding]:
    """Whether this user may have real-time priority and lock memory.

    Args:
        enforce: franky needs both.
        priority: limit of the real-time priority (None: of this process), -1: none.
        memory: limit of the locked memory in bytes (None: of this process), -1: none.
        user: number of the user (None: of this process); 0 is bound by neither.
    """
    priority = resource.getrlimit(resource.RLIMIT_RTPRIO)[0] if priority is None else priority
    memory = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] if memory is None else memory
    is_root = (os.geteuid() if user is None else user) == 0
    rows = (
        ("rtprio limit", priority, str(priority), _PRIORITY, f"rtprio {_PRIORITY}"),
        ("memlock limit", memory, f"{memory // 1024} KiB", _MEMLOCK, f"memlock {_MEMLOCK // 1024}"),
    )
    findings = []
    for check, value, text, wanted, line in rows:
        text = "unlimited" if value == resource.RLIM_INFINITY else text
        if is_root or value == resource.RLIM_INFINITY or value >= wanted:
            findings.append(ok(check, text + (", and root is not bound by it" if is_root else "")))
            continue
        advice = (
            f"add `@realtime - {line}` to /etc/security/limits.conf, this user to the group "
            "realtime, and log in again"
        )
        findings.append((fail if enforce else warn)(check, text, advice))
    return findings


def governor_finding(root: Path = Path("/")) -> Finding:
    """Whether the processor keeps its frequency."""
    found = set()
    for file in root.glob(_GOVERNORS):
        try:
            found.add(file.read_text().strip())
        except OSError:
            continue
    if not found:
        return skipped(
            "CPU governor",
            "this computer shows none",
            "nothing to do in a virtual machine or where the firmware sets the frequency",
        )
    text = ", ".join(sorted(found))
    if found == {"performance"}:
        return ok("CPU governor", text)
    return warn(
        "CPU governor", text, "`sudo cpupower frequency-set -g performance`, at every start"
    )


@dataclass(frozen=True)
class ClockState:
    """What the kernel says about its clock.

    Attributes:
        synchronised: a daemon keeps it.
        error: largest [s].
    """

    synchronised: bool
    error: float


def read_clock() -> ClockState | None:
    """Ask the kernel about its clock, without changing it; None where it does not tell."""
    # struct timex: modes, offset, frequency, largest and estimated error, status and more.
    buffer = (ctypes.c_long * 64)()
    try:
        if ctypes.CDLL(None).adjtimex(buffer) < 0:
            return None
    except (AttributeError, OSError):
        return None
    return ClockState(not buffer[5] & _UNSYNCHRONISED, 1e-6 * buffer[3])


def clock_finding(clock: ClockState | None) -> Finding:
    """Whether stamps can be compared with those of other computers."""
    if clock is None:
        return skipped("system clock", "the kernel does not tell", "see `timedatectl`")
    if clock.synchronised:
        return ok("system clock", f"synchronised, at most {1e3 * clock.error:.0f} ms off")
    return warn(
        "system clock",
        "not synchronised",
        "`sudo timedatectl set-ntp true`, or run chrony; with nodes on two computers the ages of "
        "images and commands are wrong otherwise",
    )
