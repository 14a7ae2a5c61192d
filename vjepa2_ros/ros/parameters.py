# SPDX-License-Identifier: Apache-2.0
"""Parameters of a node as a table: one line declares, documents and checks each.

rclpy ignores a parameter that a YAML file sets and the node never declares, so that a misspelt
limit would silently leave the default in force. Here it is refused, like a value out of range, and
all that is wrong is told at once.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

# Names that rclpy itself understands on any node.
_OF_RCLPY = ("use_sim_time", "start_type_description_service")
_UNBOUNDED = 1e308


class ParameterError(ValueError):
    """A parameter is unknown or has a bad value; the text names it and says what is allowed."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a node.

    default: bool, int, float, str or a list of one of these; its type is the parameter's.
    unit: physical unit, for the description. minimum, maximum: range of a number, or of each
    number of a list, both ends included. choices: the texts allowed. length: of a list.
    read_only: cannot be changed while the node lives; the others can until it is configured.
    """

    name: str
    default: Any
    description: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    length: int | None = None
    read_only: bool = False

    def check(self, value: Any) -> Any:
        """Return the value in the parameter's type (a whole number may stand for a float)."""
        if isinstance(self.default, (list, tuple)):
            return self._check_list(value)
        return self._check_one(value, self.default)

    def _check_list(self, value: Any) -> list:
        if isinstance(value, (str, bytes)) or not hasattr(value, "__len__"):
            raise ParameterError(f"{self.name} must be a list, not {value!r}")
        if self.length is not None and len(value) != self.length:
            raise ParameterError(f"{self.name} must have {self.length} entries, not {len(value)}")
        example = self.default[0] if self.default else ""
        return [self._check_one(entry, example) for entry in value]

    def _check_one(self, value: Any, example: Any) -> Any:
        kind = type(example)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise ParameterError(
                f"{self.name} must be of type {kind.__name__}, not {type(value).__name__} "
                f"({value!r})"
            )
        if kind is float and not math.isfinite(value):
            raise ParameterError(f"{self.name} must be finite, not {value}")
        below = self.minimum is not None and value < self.minimum
        above = self.maximum is not None and value > self.maximum
        if below or above:
            raise ParameterError(f"{self.name} is {value}, but must be {self.range_text()}")
        if self.choices and value not in self.choices:
            raise ParameterError(
                f"{self.name} is {value!r}, but must be one of {', '.join(self.choices)}"
            )
        return value

    def range_text(self) -> str:
        """The range for a person, with the unit."""
        unit = f" {self.unit}" if self.unit else ""
        if self.minimum is not None and self.maximum is not None:
            return f"from {self.minimum} to {self.maximum}{unit}"
        if self.minimum is not None:
            return f"at least {self.minimum}{unit}"
        return f"at most {self.maximum}{unit}"

    def descriptor(self) -> ParameterDescriptor:
        """What `ros2 param describe` shows."""
        descriptor = ParameterDescriptor(
            description=self.description + (f" [{self.unit}]" if self.unit else ""),
            read_only=self.read_only,
            additional_constraints=f"one of: {', '.join(self.choices)}" if self.choices else "",
        )
        if self.minimum is None and self.maximum is None:
            return descriptor
        if type(self.default) is int:
            descriptor.integer_range = [
                IntegerRange(
                    from_value=int(-(2**62) if self.minimum is None else self.minimum),
                    to_value=int(2**62 if self.maximum is None else self.maximum),
                    step=1,
                )
            ]
        elif type(self.default) is float:
            descriptor.floating_point_range = [
                FloatingPointRange(
                    from_value=float(-_UNBOUNDED if self.minimum is None else self.minimum),
                    to_value=float(_UNBOUNDED if self.maximum is None else self.maximum),
                )
            ]
        return descriptor


def check_all(table: Sequence[Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """Check what was given against the table; returns the value of every parameter.

    Raises ParameterError that lists every unknown name and every bad value.
    """
    known = {parameter.name: parameter for parameter in table}
    problems = []
    values = {parameter.name: parameter.default for parameter in table}
    for name, value in given.items():
        if name in _OF_RCLPY or name.startswith("qos_overrides."):
            continue
        if name not in known:
            problems.append(f"unknown parameter {name!r}{_suggestion(name, known)}")
            continue
        try:
            values[name] = known[name].check(value)
        except ParameterError as error:
            problems.append(str(error))
    if problems:
        raise ParameterError("; ".join(problems))
    return values


def declare(node: Node, table: Sequence[Parameter]) -> dict[str, Any]:
    """Declare the table on a node with what files and arguments give; returns all values.

    Raises ParameterError that lists every unknown name and every bad value.
    """
    given = {name: override.value for name, override in node._parameter_overrides.items()}
    values = check_all(table, given)
    for parameter in table:
        node.declare_parameter(
            parameter.name, values[parameter.name], parameter.descriptor(), ignore_override=True
        )
    return values


def _suggestion(name: str, known: Mapping[str, Parameter]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" (known: {', '.join(sorted(known))})"
