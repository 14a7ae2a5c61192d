# SPDX-License-Identifier: Apache-2.0
"""Typed settings as the parameters of a ROS node.

rclpy ignores a parameter that a file sets and the node never declares, so that a misspelt limit
would silently leave the default in force. Here it is refused, like a value out of range, and all
problems are reported at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from vjepa2_ros.settings.declaration import Parameter, build, parameters_of, values_of
from vjepa2_ros.settings.stack import known_parameters

Settings = TypeVar("Settings")

USE_SIM_TIME = "use_sim_time"
"""Parameter of rclpy on any node: whether its clock is that of a simulation."""
# Names that rclpy itself understands on any node.
_OF_RCLPY = (USE_SIM_TIME, "start_type_description_service")
_UNBOUNDED = 1e308


def declare(node: Node, settings: type[Settings]) -> Settings:
    """Declare a class of settings on a node, with what files and arguments give.

    Args:
        node: created without automatic declaration.
        settings: class of settings, see `vjepa2_ros.settings.declaration`.

    Returns:
        Its instance.

    Raises:
        SettingsError: names every unknown parameter, every bad value and the first broken rule.
    """
    overrides = {name: override.value for name, override in node._parameter_overrides.items()}
    built = build(settings, own_parameters(settings, overrides))
    values = values_of(built)
    for name, parameter in parameters_of(settings).items():
        value = list(values[name]) if isinstance(values[name], tuple) else values[name]
        node.declare_parameter(name, value, descriptor(parameter), ignore_override=True)
    return built


def fix(node: Node) -> None:
    """Refuse every change of a node's parameters from now on, for one that reads them once."""
    text = f"{node.get_name()} reads its parameters at the start: start it again with the new ones"

    def refuse(changes: list[RosParameter]) -> SetParametersResult:
        return SetParametersResult(successful=False, reason=text)

    node.add_on_set_parameters_callback(refuse)


def own_parameters(settings: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """What of given parameters concerns a node, unknown names included.

    A section `/**` reaches every node: parameters that only other nodes of the stack have are left
    out, as are those that rclpy handles itself.
    """
    own, others = parameters_of(settings), known_parameters()
    return {
        name: value
        for name, value in given.items()
        if name in own
        or not (name in others or name in _OF_RCLPY or name.startswith("qos_overrides."))
    }


def descriptor(parameter: Parameter) -> ParameterDescriptor:
    """What `ros2 param describe` shows of a parameter."""
    described = ParameterDescriptor(
        description=parameter.description + (f" [{parameter.unit}]" if parameter.unit else ""),
        additional_constraints="; ".join(filter(None, (_choices(parameter), _live(parameter)))),
    )
    if parameter.minimum is None and parameter.maximum is None:
        return described
    if type(parameter.default) is int:
        described.integer_range = [
            IntegerRange(
                from_value=int(-(2**62) if parameter.minimum is None else parameter.minimum),
                to_value=int(2**62 if parameter.maximum is None else parameter.maximum),
                step=1,
            )
        ]
    elif type(parameter.default) is float:
        described.floating_point_range = [
            FloatingPointRange(
                from_value=float(-_UNBOUNDED if parameter.minimum is None else parameter.minimum),
                to_value=float(_UNBOUNDED if parameter.maximum is None else parameter.maximum),
            )
        ]
    return described


def _choices(parameter: Parameter) -> str:
    return f"one of: {', '.join(parameter.choices)}" if parameter.choices else ""


def _live(parameter: Parameter) -> str:
    return {
        "": "needs deactivate and cleanup to change",
        "any": "may change while active",
        "lower": "may become smaller while active",
        "raise": "may become larger while active",
    }[parameter.live]
