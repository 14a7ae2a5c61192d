# SPDX-License-Identifier: Apache-2.0
"""Nodes as processes of their own, on a machine with or without `ros2 launch`.

Plain subprocesses: each line a process prints is passed on with the process's name, the group ends
as a whole, and nothing outlives it, not even after a SIGKILL of the starter. What the processes
print is always read, also if the output that it is passed on to fails, and it cannot steer a
terminal: nodes log texts that come from the network.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import yaml

from vjepa2_ros.ros.deadlines import WIND_DOWN_OPTION
from vjepa2_ros.ros.signals import end_with_parent
from vjepa2_ros.settings.files import NAMESPACE
from vjepa2_ros.settings.stack import turn_to_end
from vjepa2_ros.stack.security import enclave_arguments
from vjepa2_ros.stack.watchdog import SILENCE, Watchdog
from vjepa2_ros.text import printable

QUEUED_LINES = 10_000
"""Lines that wait for an output that is not read; the oldest are dropped first."""
# Time for the last words of a process that has ended: a pipe may be held open by its children [s].
_LAST_WORDS = 0.5
_POLL = 0.05
# Time between two signals that count as two [s].
_GENTLY = 0.2
# Time for a lifecycle manager to end when all others have [s].
_LAST_STEPS = 3.0


class ProcessGroupError(RuntimeError):
    """A process ended or hangs, or a line did not come; the text holds what it last said."""


class Process:
    """One process of a group and the last lines that it printed.

    Attributes:
        name: of the process.
        vital: whether its end is one of the group.
    """

    def __init__(self, name: str, popen: subprocess.Popen, vital: bool = True) -> None:
        self.name = name
        self.vital = vital
        self.popen = popen
        self.lines: deque[str] = deque(maxlen=2000)
        self.output_ended = False

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.popen.poll() is None

    def send(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.is_running:
            self.popen.send_signal(number)

    def wait(self, timeout: float) -> None:
        """Wait until it has ended, but not longer than `timeout` [s]."""
        with suppress(subprocess.TimeoutExpired):
            self.popen.wait(timeout)

    def tail(self, count: int = 15) -> str:
        """The last lines, for an error message."""
        return "\n".join(f"  {line}" for line in list(self.lines)[-count:])


class ProcessGroup:
    """Starts processes and ends them together. Use it as a context manager.

    Args:
        on_line: called with (name, line) for each line printed, from one thread; the default
            prints them with the name in front. It may take as long as it likes, and raise: the
            processes do not notice.
        environment: added to this process's environment.
        hurry: whether somebody does not want to wait for an end in order.

    Attributes:
        processes: by name, in the order of their start.
        stop_timeout: longest wait for an end in order, see `stop` [s].
        kill_timeout: longest wait for a process that nobody brings down [s].
        killed: names of the processes that did not end in time, once `stop` has returned.
    """

    def __init__(
        self,
        on_line: Callable[[str, str], None] | None = None,
        environment: Mapping[str, str] | None = None,
        hurry: Callable[[], bool] = lambda: False,
    ) -> None:
        # Without colours, whose escape sequences would be shown as text.
        own = {"PYTHONUNBUFFERED": "1", "RCUTILS_COLORIZED_OUTPUT": "0"}
        self.environment = {**os.environ, **own, **(environment or {})}
        self.processes: dict[str, Process] = {}
        self.stop_timeout, self.kill_timeout = 15.0, 8.0
        self.hurry = hurry
        self.killed: list[str] = []
        self._changed = threading.Condition()
        self._readers: list[threading.Thread] = []
        self._printer = _Printer(on_line or print_line)
        self._gone: set[str] = set()
        self._at_end: list[Callable[[], None]] = []
        self._watchdogs: dict[str, Watchdog] = {}

    def __enter__(self) -> ProcessGroup:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, name: str, command: list[str], vital: bool = True) -> Process:
        """Start a process under a name; if it is not `vital`, the others go on without it."""
        watchdog = self._watchdogs.get(name)
        popen = subprocess.Popen(
            command,
            env={**self.environment, **(watchdog.environment if watchdog else {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # A Ctrl-C in the terminal goes to the starter alone, which ends the group in order.
            start_new_session=True,
            preexec_fn=_prepare_child,
        )
        process = Process(name, popen, vital)
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
        namespace: str = NAMESPACE,
        wind_down: float = 0.0,
        ros_arguments: Iterable[str] = (),
        vital: bool = True,
    ) -> Process:
        """Start a node of this package.

        Args:
            name: of the node.
            parameters: values that differ from the declared defaults.
            namespace: of the node.
            wind_down: how long it leaves its end to the lifecycle manager [s].
            ros_arguments: more of what may follow `--ros-args`.
            vital: see `start`.
        """
        command = [sys.executable, "-m", "vjepa2_ros.nodes", name]
        command += [WIND_DOWN_OPTION, str(wind_down)] if wind_down else []
        command += ["--ros-args", "-r", f"__ns:={namespace}", *ros_arguments]
        command += enclave_arguments(name, namespace, self.environment)
        for key, value in (parameters or {}).items():
            # As one line of YAML: what rcl would read from a file.
            text = yaml.safe_dump(value, default_flow_style=True, width=10_000)
            command += ["-p", f"{key}:={text.removesuffix('...' + chr(10)).strip()}"]
        return self.start(name, command, vital)

    def watch(self, name: str) -> None:
        """Take a process that is started after this for lost if it ceases to say that it lives.

        It says so by the convention of systemd, see `ros/notify.py`; before its first sign of life
        it is given any time.
        """
        self._watchdogs[name] = watchdog = Watchdog()
        self.at_end(watchdog.close)

    def at_end(self, callback: Callable[[], None]) -> None:
        """Have something called once all processes have ended."""
        self._at_end.append(callback)

    def wait_for_line(
        self,
        name: str,
        text: str,
        timeout: float | None = None,
        stop: threading.Event | None = None,
    ) -> str:
        """Wait until a process prints a line with a text.

        Args:
            name: of the process.
            text: part of the line.
            timeout: longest wait [s]; None waits for as long as all processes live.
            stop: ends the wait.

        Returns:
            The line.

        Raises:
            ProcessGroupError: a process of the group ended or hangs, the time is over, or `stop`
                is set.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while True:
                ended = self._first_ended()
                found = next((line for line in self.processes[name].lines if text in line), None)
                if found is not None:
                    return found
                if ended is not None:
                    raise _end_of(ended)
                self._check_signs_of_life()
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
            if not self._changed.wait_for(lambda: process.output_ended, timeout):
                raise ProcessGroupError(f"{name} did not end within {timeout:.0f} s")
        return process.popen.wait()

    def check(self) -> None:
        """Raise ProcessGroupError if a process has ended, or one that is watched hangs."""
        with self._changed:
            ended = self._first_ended()
        if ended is not None:
            raise _end_of(ended)
        self._check_signs_of_life()

    def gone(self) -> list[Process]:
        """Processes that are not vital and have ended since this was asked the last time."""
        with self._changed:
            found = [
                process
                for name, process in self.processes.items()
                if not process.vital and process.popen.poll() is not None and name not in self._gone
            ]
            self._gone.update(process.name for process in found)
        return found

    def stop(self, timeout: float | None = None) -> None:
        """End all: terminate, wait, and kill what is left, whose names go to `killed`.

        The vital process started last (the lifecycle manager) brings the others down. If it has
        died, or `hurry` says so, they end one by one: the controller first, so that the robot
        halts, then the others in the reverse order of their start.

        Args:
            timeout: longest wait [s]; `stop_timeout` if None.
        """
        deadline = time.monotonic() + (self.stop_timeout if timeout is None else timeout)
        processes = list(reversed(self.processes.values()))
        for process in processes:
            # Not SIGINT: Python answers it with a traceback until a program has its own handler.
            process.send(signal.SIGTERM)
        last = next((process for process in processes if process.vital), None)
        if last is not None:
            others = [process for process in processes if process is not last]
            # What only watches, last: nobody waits for it.
            others.sort(key=lambda process: (not process.vital, turn_to_end(process.name)))
            self._bring_down(last, others, deadline)
        self.killed = [process.name for process in processes if process.is_running]
        for process in processes:
            process.send(signal.SIGKILL)
            process.popen.wait()
        for reader in self._readers:
            reader.join(2.0)
        self._printer.close()
        while self._at_end:
            self._at_end.pop()()

    def _bring_down(self, manager: Process, others: list[Process], deadline: float) -> None:
        """Wait until all have ended, all of which got a SIGTERM, or `deadline` [s, monotonic]."""
        while manager.is_running and time.monotonic() < deadline and not self.hurry():
            manager.wait(_POLL)
            if others and not any(process.is_running for process in others):
                # It has nothing left to do.
                deadline = min(deadline, time.monotonic() + _LAST_STEPS)
                others = []
        if manager.popen.poll() == 0:
            end = min(deadline, time.monotonic() + self.kill_timeout)
            for process in others:
                process.wait(max(_POLL, end - time.monotonic()))
            return
        for process in others:
            # Again, so that it does not wait for the manager.
            process.wait(_GENTLY)
            process.send(signal.SIGTERM)
            process.wait(min(self.kill_timeout, max(_GENTLY, deadline - time.monotonic())))
        manager.wait(min(_LAST_STEPS, max(_POLL, deadline - time.monotonic())))

    def _check_signs_of_life(self) -> None:
        for name, watchdog in self._watchdogs.items():
            silence = watchdog.silence
            if silence > SILENCE:
                raise ProcessGroupError(
                    f"{name} hangs: it has given no sign of life for {silence:.1f} s; it last "
                    f"said:\n{self.processes[name].tail()}"
                )

    def _first_ended(self) -> Process | None:
        """A process that has ended, once its last words are known."""
        for process in self.processes.values():
            if process.vital and process.popen.poll() is not None:
                self._changed.wait_for(partial(getattr, process, "output_ended"), _LAST_WORDS)
                return process
        return None

    def _read(self, process: Process) -> None:
        for line in process.popen.stdout:
            line = printable(line.rstrip("\n"))
            with self._changed:
                process.lines.append(line)
                self._changed.notify_all()
            self._printer.put(process.name, line)
        # Only now are its last words known, too.
        with self._changed:
            process.output_ended = True
            self._changed.notify_all()


class _Printer:
    """Hands lines on in a thread of its own, which alone waits for a slow output."""

    def __init__(self, on_line: Callable[[str, str], None]) -> None:
        self._on_line = on_line
        self._changed = threading.Condition()
        self._lines: deque[tuple[str, str]] = deque()
        self._dropped = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="printer", daemon=True)
        self._thread.start()

    def put(self, name: str, line: str) -> None:
        with self._changed:
            self._lines.append((name, line))
            if len(self._lines) > QUEUED_LINES:
                self._lines.popleft()
                self._dropped += 1
            self._changed.notify()

    def close(self, timeout: float = 2.0) -> None:
        """Print what waits; an output that does not take it in time is left alone."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._closed)
                if not self._lines:
                    return
                dropped, self._dropped = self._dropped, 0
                name, line = self._lines.popleft()
            # A full disk or a closed terminal must not end the thread.
            with suppress(Exception):
                if dropped:
                    self._on_line("up", f"{dropped} lines were dropped: the output was not read")
                self._on_line(name, line)


def print_line(name: str, line: str) -> None:
    """Print a line of a process with its name in front.

    Raises:
        OSError: the output takes nothing: a full disk, a closed pipe.
    """
    # Past sys.stdout, whose lock a thread that waits for the output would hold indefinitely.
    data = f"[{name}] {line}\n".encode(errors="replace")
    while data:
        data = data[os.write(sys.__stdout__.fileno(), data) :]


def _end_of(process: Process) -> ProcessGroupError:
    return ProcessGroupError(
        f"{process.name} ended with exit code {process.popen.wait()}; it said:\n{process.tail()}"
    )


def _prepare_child() -> None:
    end_with_parent()
    # A starter in the background of a shell ignores SIGINT, and what it starts would inherit that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
