# SPDX-License-Identifier: Apache-2.0
"""Which tests share a process where several run at once (`make test`), and what each leaves."""

import signal

import pytest

ROS = "test/ros/"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Files stay whole; all under test/ros go one after the other, beside those without ROS.

    `xdist_group` does not do it: xdist 3.8 writes the groups where pytest 9.2 does not read them.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            return ROS if file.startswith(ROS) else file

    return Scheduling(config, log)


@pytest.fixture(autouse=True)
def signals_as_before():
    """Commands that a test runs in this process handle signals until their process ends."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
