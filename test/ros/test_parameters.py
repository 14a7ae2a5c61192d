# SPDX-License-Identifier: Apache-2.0
"""The parameter tables of the nodes: every rule, and that the files under config/ obey them."""

import pytest
import yaml

from vjepa2_ros.nodes import lifecycle_manager
from vjepa2_ros.nodes.camera_node import CameraNode
from vjepa2_ros.nodes.controller_node import ControllerNode
from vjepa2_ros.nodes.encoder_node import EncoderNode
from vjepa2_ros.ros.parameters import Parameter, ParameterError, check_all
from vjepa2_ros.nodes.planner_node import PlannerNode
from vjepa2_ros.nodes.simulator_node import SimulatorNode
from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.planning.cem import CEMConfig
from vjepa2_ros.planning.settings import action_space, loop_settings, planner
from vjepa2_ros.share import share_directory

TABLES = {
    node.NAME: node.PARAMETERS
    for node in (CameraNode, EncoderNode, PlannerNode, ControllerNode, SimulatorNode)
} | {"lifecycle_manager": lifecycle_manager.PARAMETERS}
RATE = Parameter("rate", 10.0, "images per second", "Hz", 0.1, 120.0)


@pytest.mark.parametrize("name", TABLES)
def test_the_parameter_file_sets_every_parameter_to_an_allowed_value(name):
    path = share_directory() / "config" / f"{name}.yaml"
    given = yaml.safe_load(path.read_text())[f"/**/{name}"]["ros__parameters"]
    check_all(TABLES[name], given)
    assert set(given) == {parameter.name for parameter in TABLES[name]}


@pytest.mark.parametrize("name", TABLES)
def test_every_parameter_is_described_and_its_default_allowed(name):
    for parameter in TABLES[name]:
        assert parameter.description and parameter.check(parameter.default) == parameter.default
        descriptor = parameter.descriptor()
        assert parameter.unit in descriptor.description


def test_the_planners_defaults_are_the_papers():
    values = check_all(PlannerNode.PARAMETERS, {})
    assert planner(values).config == CEMConfig() and action_space(values) == ActionSpace()
    assert loop_settings(values, [15]).cost == "l1"


@pytest.mark.parametrize(
    "value, text",
    [
        (0.0, "rate is 0.0, but must be from 0.1 to 120.0 Hz"),
        (500.0, "rate is 500.0, but must be from 0.1 to 120.0 Hz"),
        (float("nan"), "rate must be finite"),
        (float("inf"), "rate must be finite"),
        ("fast", "rate must be of type float, not str"),
        (True, "rate must be of type float, not bool"),
        ([1.0], "rate must be of type float, not list"),
    ],
)
def test_a_bad_value_is_refused_with_the_reason(value, text):
    with pytest.raises(ParameterError) as caught:
        check_all((RATE,), {"rate": value})
    assert text in str(caught.value)


def test_a_whole_number_may_stand_for_a_float():
    assert check_all((RATE,), {"rate": 5}) == {"rate": 5.0}


def test_a_list_is_checked_entry_by_entry():
    corner = Parameter("corner", [0.0, 0.0], "corner", "m", -1.0, 1.0, length=2)
    assert corner.check((1, 0.5)) == [1.0, 0.5]
    for bad in ([0.0], [0.0, 3.0], 1.0, "ab"):
        with pytest.raises(ParameterError, match="corner"):
            corner.check(bad)


def test_all_that_is_wrong_is_told_at_once():
    with pytest.raises(ParameterError) as caught:
        check_all((RATE,), {"rate": -1.0, "raet": 1.0, "colour": 2})
    text = str(caught.value)
    assert "rate is -1.0" in text and "did you mean 'rate'?" in text and "known: rate" in text


def test_what_rclpy_understands_on_every_node_is_not_unknown():
    given = {"use_sim_time": True, "qos_overrides./camera/image_raw.publisher.depth": 2}
    assert check_all((RATE,), given) == {"rate": 10.0}
