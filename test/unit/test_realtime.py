# SPDX-License-Identifier: Apache-2.0
"""Real-time priority."""

import os
import threading

import pytest

from vjepa2_ros.robot.realtime import realtime_priority


def policy_of_a_new_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(os.sched_getscheduler(0)))
    thread.start()
    thread.join()
    return found[0]


def test_a_thread_that_is_started_inherits_the_priority_and_the_caller_gives_it_back():
    before = os.sched_getscheduler(0)
    try:
        with realtime_priority(True):
            inside = policy_of_a_new_thread()
    except PermissionError:
        pytest.skip("NO PERMISSION: this user may not have real-time priority")
    assert inside == os.SCHED_FIFO
    assert os.sched_getscheduler(0) == before == policy_of_a_new_thread()


def test_where_it_is_not_wanted_nothing_changes():
    before = os.sched_getscheduler(0)
    with realtime_priority(False):
        assert os.sched_getscheduler(0) == before
