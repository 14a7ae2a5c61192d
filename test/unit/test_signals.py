# SPDX-License-Identifier: Apache-2.0
"""Signals as an event, whatever they interrupt."""

import subprocess
import sys

DEADLINE = 180.0
PROGRAM = """
import os, signal, threading
from vjepa2_ros.ros.signals import stop_on_signal
stop = stop_on_signal()
assert not stop.wait(0.01) and not stop.is_set()
# Where a signal meets the event's own wait, or the handler of the signal before.
with stop._cond:
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)
assert stop.is_set() and stop.wait() and stop.wait(0.0)
print("done")
"""
WAITING = """
import os, signal, threading
from vjepa2_ros.ros.signals import stop_on_signal
stop = stop_on_signal()
threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
assert stop.wait(20.0)
print("done")
"""


def output_of(program):
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    return ended.stdout + ended.stderr


def test_a_signal_on_top_of_another_does_not_hang_the_process():
    """A node that got two in quick succession once hung in the lock of its event for good."""
    assert output_of(PROGRAM) == "done\n"


def test_a_signal_ends_a_wait():
    assert output_of(WAITING) == "done\n"
