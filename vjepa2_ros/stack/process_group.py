# SPDX-License-Identifier: Apache-2.0
"""Nodes as processes of their own, on a machine with or without `ros2 launch`.

Plain subprocesses: each line a process prints is passed on with the process's name, the group ends
as a whole, and nothing outlives it, not even after a SIGKILL of the starter.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from vjepa2_ros.settings.files import NAMESPACE
from vjepa2_ros.share import share_directory

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class ProcessGroupError(RuntimeError):
    """A process ended or a line did not come; the text holds what the process last said."""


class Process:
    """One process of a group and the last lines that it printed."""

    def __init__(self, name: str, popen: subprocess.Popen) -> None:
        self.name = name
        self.popen = popen
        self.lines: deque[str] = deque(maxlen=2000)
        self.ended = False

    def tail(self, count: int = 15) -> str:
        """The last lines, for an error message."""
        return "\n".join(f"  {line}" for line in list(self.lines)[-count:])


class ProcessGroup:
    """Starts node processes and ends them together. Use it as a context manager.

    on_line: called with (name, line) for each line printed, from reader threads; the default
        prints them with the name in front.
    environment: added to this process's environment.
    """

    def __init__(
        self,
        on_line: Callable[[str, str], None] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._on_line = on_line or print_line
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        self._changed = threading.Condition()
        self._readers: list[threading.Thread] = []
        self.processes: dict[str, Process] = {}

    def __enter__(self) -> ProcessGroup:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, name: str, command: list[str]) -> Process:
        """Start a process under a name."""
        popen = subprocess.Popen(
            command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # A Ctrl-C in the terminal goes to the starter alone, which ends the group in order.
            start_new_session=True,
            preexec_fn=_prepare_child,
        )
        process = Process(name, popen)
        reader = threading.Thread(target=self._read, args=(process,), name=name, daemon=True)
        with self._changed:
            self.processes[name] = process
            self._readers.append(reader)
        reader.start()
        return process

    def start_node(
        self,
        name: str,
        parameters: Mapping[str, Any] | None = None,
        config: Path | None = None,
        namespace: str = NAMESPACE,
    ) -> Process:
        """Start a node of this package with its file under config/ and changes to it."""
        config = config or share_directory() / "config" / f"{name}.yaml"
        command = [sys.executable, "-m", f"vjepa2_ros.nodes.{name}", "--ros-args"]
        command += ["-r", f"__ns:={namespace}", "--params-file", str(config)]
        for key, value in (parameters or {}).items():
            # As one line of YAML: what rcl would read from a file.
            text = yaml.safe_dump(value, default_flow_style=True, width=10_000)
            command += ["-p", f"{key}:={text.removesuffix('...' + chr(10)).strip()}"]
        return self.start(name, command)

    def wait_for_line(
        self,
        name: str,
        text: str,
        timeout: float | None = None,
        stop: threading.Event | None = None,
    ) -> str:
        """Wait until a process prints a line with this text; returns the line.

        timeout: longest wait [s]; None waits for as long as all processes live.

        Raises ProcessGroupError if any process of the group ends first, at the timeout, or once
        the event `stop` is set.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while True:
                found = next((line for line in self.processes[name].lines if text in line), None)
                if found is not None:
                    return found
                self._raise_if_ended()
                if stop is not None and stop.is_set():
                    raise ProcessGroupError("told to stop")
                if deadline is not None and time.monotonic() > deadline:
                    raise ProcessGroupError(
                        f"{name} did not print {text!r} within {timeout:.0f} s; it said:\n"
                        f"{self.processes[name].tail()}"
                    )
                self._changed.wait(0.2)

    def wait_for_end(self, name: str, timeout: float) -> int:
        """Wait until a process has ended and all it said is known; returns its exit code."""
        process = self.processes[name]
        with self._changed:
            if not self._changed.wait_for(lambda: process.ended, timeout):
                raise ProcessGroupError(f"{name} did not end within {timeout:.0f} s")
        return process.popen.wait()

    def check(self) -> None:
        """Raise ProcessGroupError if a process has ended."""
        with self._changed:
            self._raise_if_ended()

    def stop(self, timeout: float = 15.0) -> None:
        """End all in reverse order of their start: interrupt, wait, and kill what is left."""
        # The one started last (the lifecycle manager) brings the others down, so it goes first.
        for process in reversed(list(self.processes.values())):
            _send(process, signal.SIGINT)
            if process is list(self.processes.values())[-1]:
                _wait(process, timeout)
        deadline = time.monotonic() + timeout
        for process in self.processes.values():
            _wait(process, max(0.1, deadline - time.monotonic()))
            if process.popen.poll() is None:
                _send(process, signal.SIGKILL)
                process.popen.wait()
        for reader in self._readers:
            reader.join(2.0)

    def _raise_if_ended(self) -> None:
        for process in self.processes.values():
            if process.ended:
                raise ProcessGroupError(
                    f"{process.name} ended with exit code {process.popen.wait()}; it said:\n"
                    f"{process.tail()}"
                )

    def _read(self, process: Process) -> None:
        for line in process.popen.stdout:
            line = line.rstrip("\n")
            with self._changed:
                process.lines.append(line)
                self._changed.notify_all()
            self._on_line(process.name, line)
        # Only now are its last words known, too.
        with self._changed:
            process.ended = True
            self._changed.notify_all()


def print_line(name: str, line: str) -> None:
    """Print a line of a process with its name in front."""
    # In one call: `print` writes the end of the line apart, and lines of two threads would mix.
    sys.stdout.write(f"[{name}] {line}\n")
    sys.stdout.flush()


def _prepare_child() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # A starter in the background of a shell ignores SIGINT, and what it starts would inherit that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _send(process: Process, number: int) -> None:
    if process.popen.poll() is None:
        process.popen.send_signal(number)


def _wait(process: Process, timeout: float) -> None:
    try:
        process.popen.wait(timeout)
    except subprocess.TimeoutExpired:
        pass
