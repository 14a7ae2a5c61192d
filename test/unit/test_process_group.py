# SPDX-License-Identifier: Apache-2.0
"""Processes that are started, listened to and ended together; plain programs stand for nodes."""

import os
import select
import subprocess
import sys
import threading

import pytest

from vjepa2_ros.stack.process_group import QUEUED_LINES, ProcessGroup, ProcessGroupError

DEADLINE = 180.0
PATIENT = "import time; print('ready', flush=True); time.sleep(1000)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('ready', flush=True); time.sleep(1000)"
)


def python(code):
    return [sys.executable, "-c", code]


def test_lines_come_with_the_name_of_their_process():
    lines, done = [], threading.Event()

    def keep(name, line):
        lines.append((name, line))
        if len(lines) == 2:
            done.set()

    with ProcessGroup(on_line=keep) as group:
        group.start("one", python("print('hello')"))
        group.start("two", python("import sys; print('oops', file=sys.stderr)"))
        assert done.wait(DEADLINE)
    # One that is still on its way out may have more to say to the interrupt.
    assert sorted(lines[:2]) == [("one", "hello"), ("two", "oops")]


def test_what_a_process_prints_cannot_steer_the_terminal():
    with ProcessGroup() as group:
        group.start("loud", python("print('\\x1b[2Jgone'); " + PATIENT))
        assert group.wait_for_line("loud", "gone", DEADLINE) == r"\x1b[2Jgone"


def test_a_line_is_waited_for():
    with ProcessGroup() as group:
        group.start("patient", python(PATIENT))
        assert group.wait_for_line("patient", "read", DEADLINE) == "ready"


def test_a_process_that_ends_is_reported_with_its_exit_code_and_last_words():
    with ProcessGroup() as group:
        group.start("patient", python(PATIENT))
        group.start("dying", python("print('no checkpoint'); raise SystemExit(3)"))
        with pytest.raises(ProcessGroupError, match="dying ended with exit code 3(.|\n)*no checkp"):
            group.wait_for_line("patient", "never printed", DEADLINE)


def test_a_line_that_does_not_come_ends_the_wait_with_what_was_said_instead():
    with ProcessGroup() as group:
        group.start("patient", python(PATIENT))
        group.wait_for_line("patient", "ready", DEADLINE)
        with pytest.raises(ProcessGroupError, match="did not print 'never'(.|\n)*ready"):
            group.wait_for_line("patient", "never", 0.1)


def test_without_a_deadline_a_line_is_waited_for_as_long_as_all_processes_live():
    with ProcessGroup() as group:
        group.start("late", python(f"import time; time.sleep(0.5); {PATIENT}"))
        assert group.wait_for_line("late", "ready") == "ready"
        group.start("dying", python("raise SystemExit(3)"))
        with pytest.raises(ProcessGroupError, match="dying ended with exit code 3"):
            group.wait_for_line("late", "never")


def test_an_event_ends_the_wait():
    stop = threading.Event()
    stop.set()
    with ProcessGroup() as group:
        group.start("patient", python(PATIENT))
        with pytest.raises(ProcessGroupError, match="told to stop"):
            group.wait_for_line("patient", "never", DEADLINE, stop)


def test_what_a_process_prints_is_read_although_nobody_takes_the_lines():
    """A reader of lines that does not return once blocked the processes, halts included."""
    stuck, entered = threading.Event(), threading.Event()

    def never_return(name, line):
        entered.set()
        stuck.wait(DEADLINE)

    with ProcessGroup(on_line=never_return) as group:
        group.start("loud", python("for i in range(50000): print('x' * 100)\nprint('last')"))
        assert entered.wait(DEADLINE)
        assert group.wait_for_end("loud", DEADLINE) == 0
        assert group.processes["loud"].lines[-1] == "last"
        stuck.set()


def test_lines_that_nobody_takes_are_dropped_from_the_oldest_on_and_counted():
    lines, go_on, done = [], threading.Event(), threading.Event()

    def keep(name, line):
        lines.append(line)
        go_on.wait()
        if line == "last":
            done.set()

    count = QUEUED_LINES + 1000
    with ProcessGroup(on_line=keep) as group:
        group.start("loud", python(f"for i in range({count}): print(i)\nprint('last')"))
        group.wait_for_end("loud", DEADLINE)
        go_on.set()
        assert done.wait(DEADLINE)
    (note,) = (line for line in lines if "dropped" in line)
    assert int(note.split()[0]) == count + 1 - (len(lines) - 1)
    assert lines[-2:] == [str(count - 1), "last"]


def test_an_output_that_fails_does_not_hide_the_end_of_a_process():
    """A full disk ended the thread that read, and the end of the process was never noticed."""

    def fail(name, line):
        raise OSError("No space left on device")

    with ProcessGroup(on_line=fail) as group:
        group.start("patient", python(PATIENT))
        group.start("dying", python("print('something'); raise SystemExit(3)"))
        with pytest.raises(ProcessGroupError, match="dying ended with exit code 3(.|\n)*something"):
            group.wait_for_line("patient", "never", DEADLINE)


def test_the_end_of_a_process_is_noticed_although_its_output_is_held_open():
    child = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', {!r}])"
    with ProcessGroup() as group:
        group.start("parent", python(child.format("import time; time.sleep(10)")))
        with pytest.raises(ProcessGroupError, match="parent ended with exit code 0"):
            group.wait_for_line("parent", "never", timeout=8.0)


def test_nothing_is_left_behind_not_even_what_ignores_a_termination():
    with ProcessGroup() as group:
        for name, code in (("patient", PATIENT), ("stubborn", STUBBORN)):
            group.start(name, python(code))
            group.wait_for_line(name, "ready", DEADLINE)
        group.stop(timeout=0.5)
        codes = {name: process.popen.poll() for name, process in group.processes.items()}
    assert codes == {"patient": -15, "stubborn": -9}


def test_the_processes_end_when_their_starter_is_killed(tmp_path):
    starter = (
        "import sys, time; from vjepa2_ros.stack.process_group import ProcessGroup\n"
        "group = ProcessGroup()\n"
        f"child = group.start('child', [sys.executable, '-c', {PATIENT!r}])\n"
        "group.wait_for_line('child', 'ready', 30)\n"
        "sys.stdout.write(f'\\npid={child.popen.pid}\\n'); sys.stdout.flush(); time.sleep(1000)"
    )
    parent = subprocess.Popen(python(starter), stdout=subprocess.PIPE, text=True)
    pid = next(int(line[4:]) for line in parent.stdout if line.startswith("pid="))
    descriptor = os.pidfd_open(pid)
    parent.kill()
    parent.wait(DEADLINE)
    ended, _, _ = select.select([descriptor], [], [], DEADLINE)
    os.close(descriptor)
    assert ended, "the child outlived its starter"


def test_the_end_of_a_process_that_is_not_vital_is_told_once():
    with ProcessGroup() as group:
        group.start("watcher", [sys.executable, "-c", "pass"], vital=False)
        group.wait_for_end("watcher", 30.0)
        assert [process.name for process in group.gone()] == ["watcher"]
        assert group.gone() == []
        group.check()
