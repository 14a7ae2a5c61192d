# SPDX-License-Identifier: Apache-2.0
"""Which tests share a process where several run at once (`make test`)."""

import pytest


def pytest_collection_modifyitems(items):
    """Files stay whole; all under test/ros go one after the other, beside those without ROS."""
    for item in items:
        group = "ros" if item.path.parent.name == "ros" else item.path.name
        item.add_marker(pytest.mark.xdist_group(group))
