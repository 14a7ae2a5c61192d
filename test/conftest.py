# SPDX-License-Identifier: Apache-2.0
"""Which tests share a process where several run at once (`make test`), and what each leaves."""

import signal

import pytest

ROS = "test/ros/"
# Its nodes are light, so that the other process can run it without keeping the rest from its work.
APART = "test/ros/test_bad_start.py"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Files stay whole; those under test/ros go one after the other, beside all others.

    `xdist_group` does not do it: xdist 3.8 writes the groups where pytest 9.2 does not read them.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            return ROS if file.startswith(ROS) and file != APART else file

    return Scheduling(config, log)


def pytest_collection_modifyitems(items):
    """Those under test/ros come first: they take longest, and one process has to take them all."""
    items.sort(key=lambda item: not item.nodeid.startswith(ROS))


@pytest.fixture(autouse=True)
def signals_as_before():
    """Commands that a test runs in this process handle signals until their process ends."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
