# SPDX-License-Identifier: Apache-2.0
"""Signs of life by the convention of systemd, over real sockets."""

import os
import socket

import pytest

from vjepa2_ros.ros.notify import NOTIFY_SOCKET, READY, WATCHDOG, Notifier
from vjepa2_ros.stack.watchdog import Watchdog


@pytest.fixture
def now():
    return [0.0]


@pytest.fixture
def watchdog(now, monkeypatch):
    monkeypatch.delenv(NOTIFY_SOCKET, raising=False)
    watchdog = Watchdog(clock=lambda: now[0])
    yield watchdog
    watchdog.close()


def test_silence_counts_from_the_first_sign_of_life(watchdog, now):
    process = Notifier(watchdog.environment)
    now[0] = 100.0
    assert watchdog.silence == 0.0
    process.send(READY)
    now[0] = 101.0
    assert watchdog.silence == 0.0, "ready is no sign of life"
    process.send(WATCHDOG)
    assert watchdog.silence == 0.0
    now[0] = 103.0
    assert watchdog.silence == 2.0
    process.close()


def test_a_starter_that_was_suspended_takes_what_waits_for_a_sign_of_life(watchdog, now):
    process = Notifier(watchdog.environment)
    for _ in range(1000):
        process.send(WATCHDOG)
    now[0] = 60.0
    assert watchdog.silence == 0.0
    process.close()


def test_the_signs_are_passed_on_to_a_service_manager_above(tmp_path, monkeypatch):
    address = str(tmp_path / "systemd")
    monkeypatch.setenv(NOTIFY_SOCKET, address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as above:
        above.bind(address)
        above.settimeout(10.0)
        watchdog = Watchdog()
        assert watchdog.environment[NOTIFY_SOCKET] != os.environ[NOTIFY_SOCKET]
        process = Notifier(watchdog.environment)
        process.send(READY)
        assert watchdog.silence == 0.0
        assert above.recv(100).decode() == READY
        process.close()
        watchdog.close()


@pytest.mark.parametrize("environment", [{}, {NOTIFY_SOCKET: "/no/such/socket"}])
def test_where_nobody_listens_nothing_is_sent(environment):
    process = Notifier(environment)
    process.send(WATCHDOG)
    process.close()
