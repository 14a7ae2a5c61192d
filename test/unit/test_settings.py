# SPDX-License-Identifier: Apache-2.0
"""The planner's parameter file as settings of the search."""

import pytest

from vjepa2_ros.planning.settings import cem_config, read_node_parameters
from vjepa2_ros.share import share_directory


def shipped(**changes):
    return read_node_parameters(share_directory() / "config" / "planner_node.yaml") | changes


def test_below_zero_the_gripper_is_left_to_the_search():
    assert cem_config(shipped(close_gripper_from=-1)).close_gripper_from is None


def test_the_gripper_may_close_from_any_action_of_the_horizon_on():
    for first in range(3):
        settings = shipped(close_gripper_from=first, horizon=3)
        assert cem_config(settings).close_gripper_from == first


@pytest.mark.parametrize(("first", "horizon"), [(1, 1), (3, 3), (14, 3)])
def test_a_gripper_that_would_never_close_is_refused(first, horizon):
    settings = shipped(close_gripper_from=first, horizon=horizon)
    with pytest.raises(ValueError, match=f"close_gripper_from {first} .*never close"):
        cem_config(settings)
