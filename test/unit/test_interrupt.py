# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM in a command: one line and exit code 130, whatever it was doing."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

DEADLINE = 180.0
PROGRAM = """
import sys, time, types
from vjepa2_ros.cli import main

def work():
    {work}

command = types.ModuleType("vjepa2_ros.cli.fake")
command.add_arguments = lambda parser: None
command.run = lambda arguments: work()
sys.modules["vjepa2_ros.cli.fake"] = command
main.COMMANDS["fake"] = "for the test"
sys.argv[1:] = ["fake"]
if __name__ == "__main__":
    sys.exit(main.main())
"""
MODULE = """
import time
from pathlib import Path
print("ready", flush=True)
try:
    time.sleep(1000)
except BaseException as error:
    raise ImportError("half imported") from error
"""
WORK = {
    "sleeping": "print('ready', flush=True); time.sleep(1000)",
    "importing": "import slow_module",
    "waiting for a pool": (
        "from concurrent.futures import ProcessPoolExecutor as Pool; import multiprocessing\n"
        "    from vjepa2_ros.interrupts import interrupts_blocked\n"
        "    with Pool(2, mp_context=multiprocessing.get_context('spawn')) as pool:\n"
        "        with interrupts_blocked():\n"
        "            futures = [pool.submit(time.sleep, n) for n in (0, 0, *[1000] * 8)]\n"
        "        [future.result() for future in futures[:2]]\n"
        "        print('ready', flush=True)\n"
        "        futures[-1].result()"
    ),
    "ending": (
        # Not sleep itself: a signal just before it would be seen only after it.
        "import atexit; atexit.register(lambda: time.sleep(1000))\n"
        "    atexit.register(print, 'ready', flush=True); return 0"
    ),
}


# After SIGTERM a pool once left a warning of its semaphores.
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("work", WORK)
def test_it_ends_with_one_line_and_130(work, number, tmp_path):
    (tmp_path / "slow_module.py").write_text(MODULE)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(work=WORK[work]))
    process = subprocess.Popen(
        [sys.executable, program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "ready\n"
    # As a terminal does: the whole group gets it, the workers of a pool included.
    os.killpg(process.pid, number)
    started = time.monotonic()
    _, errors = process.communicate(timeout=DEADLINE)
    assert (process.returncode, errors) == (130, "interrupted\n")
    assert time.monotonic() - started < 10.0


ANOTHER_THREAD = """
import signal, socket, threading
from vjepa2_ros.interrupts import interrupts_blocked

# A shell starts what it puts into the background with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
thread = threading.Thread(target=threading.Event().wait, daemon=True)
thread.start()
taken, teller = socket.socketpair()
teller.setblocking(False)
taken.settimeout(20.0)
signal.set_wakeup_fd(teller.fileno())
inside = True
try:
    with interrupts_blocked():
        signal.pthread_kill(thread.ident, signal.SIGINT)
        taken.recv(1)  # by the thread; the interpreter is told, and acts on it when it may
        inside = False
except KeyboardInterrupt:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    print("too early" if inside else "afterwards")
"""


def test_an_interrupt_that_another_thread_takes_waits_until_the_workers_are_started():
    """Threads of numpy and torch do not block signals; a worker once began to read and got none.

    In a process of its own, whose signals no other test has touched.
    """
    words = [sys.executable, "-c", ANOTHER_THREAD]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE)
    assert (ended.returncode, ended.stdout) == (0, "afterwards\n"), ended.stderr


def test_a_command_is_interrupted_while_its_libraries_are_imported():
    process = subprocess.Popen(
        [sys.executable, "-v", "-m", "vjepa2_ros.cli.main", "evaluate", "--episodes", "1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    # `-v` tells of each import.
    for line in process.stderr:
        if line.startswith("import 'torch"):
            break
    process.send_signal(signal.SIGINT)
    # `-v` may be in the middle of a line.
    said = process.stderr.read()
    assert process.wait(DEADLINE) == 130
    assert "interrupted\n" in said and "Traceback" not in said


# What the outputs do not take ----------------------------------------------------------------


@pytest.mark.parametrize("work", ["print('lost'); return 0", "print('lost', flush=True)"])
def test_an_output_that_is_full_is_one_line_and_exit_code_1(work, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(work=work))
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, program],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": ""},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert ended.returncode == 1
    assert ended.stderr == f"cannot read or write: {os.strerror(errno.ENOSPC)}\n"
