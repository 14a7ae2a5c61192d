# SPDX-License-Identifier: Apache-2.0
"""Parameters that are read when a node starts, and refuse to change after that."""

import pytest
from probe import Probe
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter

from vjepa2_ros.nodes.controller_node import ControllerNode
from vjepa2_ros.settings.stack import MANAGER
from vjepa2_ros.stack.process_group import ProcessGroup


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


@pytest.fixture(scope="module")
def manager():
    """A probe next to a lifecycle manager that waits for its node."""
    probe = Probe("/fixed")
    try:
        with ProcessGroup() as group:
            group.start_node(MANAGER, {"nodes": ["camera_node"]}, namespace="/fixed")
            yield probe
    finally:
        probe.close()


@pytest.mark.parametrize(
    "change",
    [
        Parameter("nodes", Parameter.Type.STRING_ARRAY, []),
        Parameter("heartbeat_timeout", value=100.0),
    ],
    ids=lambda change: change.name,
)
def test_the_lifecycle_manager_refuses_changes_that_it_would_ignore(change, manager):
    """It once said that they were successful."""
    request = SetParameters.Request(parameters=[change.to_parameter_msg()])
    (result,) = manager.call(SetParameters, f"{MANAGER}/set_parameters", request).results
    assert not result.successful and "start it again" in result.reason
