# SPDX-License-Identifier: Apache-2.0
"""Settings as parameters of a ROS node."""

import pytest
import rclpy
from rclpy.context import Context

from vjepa2_ros.ros.parameters import declare, descriptor, own_parameters
from vjepa2_ros.settings.controller import ControllerNodeSettings
from vjepa2_ros.settings.declaration import SettingsError, parameters_of, values_of
from vjepa2_ros.settings.planning import PlannerNodeSettings
from vjepa2_ros.settings.stack import NODES


@pytest.fixture
def node():
    """Makes a node with parameters as a command line gives them."""
    context, made = Context(), []
    rclpy.init(context=context)

    def make(**given):
        words = ["--ros-args"]
        for name, value in given.items():
            words += ["-p", f"{name.replace('__', '.')}:={value}"]
        made.append(rclpy.create_node("example", context=context, cli_args=words))
        return made[-1]

    yield make
    for one in made:
        one.destroy_node()
    context.try_shutdown()


@pytest.mark.parametrize("name", NODES)
def test_a_node_without_files_has_the_shipped_settings(node, name):
    settings = NODES[name].settings
    one = node()
    assert declare(one, settings) == settings()
    for parameter, value in values_of(settings()).items():
        found = one.get_parameter(parameter).value
        assert (tuple(found) if isinstance(value, tuple) else found) == value


def test_what_is_given_is_typed(node):
    settings = declare(
        node(icem__evaluations=64, planner="icem", workspace__lower="[0.4, -0.1, 0.1]"),
        PlannerNodeSettings,
    )
    assert settings.search.chosen.evaluations == 64
    assert settings.execution.cell.workspace.lower == (0.4, -0.1, 0.1)


def test_an_unknown_name_is_refused_with_the_likely_one(node):
    with pytest.raises(SettingsError, match="unknown parameter 'max_stp'.*did you mean 'max_step'"):
        declare(node(max_stp=0.05), ControllerNodeSettings)


def test_a_section_for_all_nodes_may_name_what_only_others_have(node):
    assert declare(node(checkpoint="mine", icem__evaluations=64), ControllerNodeSettings)


def test_what_rclpy_understands_on_every_node_is_not_unknown():
    given = {"use_sim_time": True, "qos_overrides./camera/image_raw.publisher.depth": 2, "odd": 1}
    assert own_parameters(ControllerNodeSettings, given) == {"odd": 1}


def test_a_descriptor_tells_unit_range_and_whether_it_may_change_while_active():
    table = parameters_of(ControllerNodeSettings)
    step = descriptor(table["max_step"])
    assert step.description.endswith("[m]")
    assert step.floating_point_range[0].to_value == table["max_step"].maximum
    assert step.additional_constraints == "may become smaller while active"
    rate = descriptor(table["state_rate"])
    assert rate.additional_constraints == "needs deactivate and cleanup to change"
    mode = descriptor(parameters_of(PlannerNodeSettings)["gripper.mode"])
    assert mode.additional_constraints.startswith("one of: sampled, enumerated, hold")
