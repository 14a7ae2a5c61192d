# SPDX-License-Identifier: Apache-2.0
"""Parameters that are read when a node starts, and refuse to change after that."""

import pytest
import rclpy
from rclpy.context import Context
from rclpy.parameter import Parameter

from vjepa2_ros.nodes.controller_node import ControllerNode


@pytest.fixture
def context():
    context = Context()
    rclpy.init(context=context)
    yield context
    context.try_shutdown()


@pytest.fixture
def make(context):
    """Makes a controller node with parameters."""
    made = []

    def make(**given):
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        made.append(ControllerNode(context=context, parameter_overrides=overrides))
        return made[-1]

    yield make
    for node in made:
        node.destroy_node()


def change(node, **values):
    return node.set_parameters([Parameter(name, value=value) for name, value in values.items()])[0]


@pytest.mark.parametrize("start", [False, True])
def test_the_clock_of_a_running_node_does_not_change(start, make):
    """A goal in execution once stalled without a word, since its clock stood still."""
    node = make(use_sim_time=start)
    refused = change(node, use_sim_time=not start)
    assert not refused.successful and "at the start" in refused.reason
    assert node.get_parameter("use_sim_time").value is start
    assert node.get_clock().ros_time_is_active is start
    assert change(node, use_sim_time=start).successful, "no change"
