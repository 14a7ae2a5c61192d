# SPDX-License-Identifier: Apache-2.0
"""Settings as dataclasses whose fields say all there is to know of each: one line declares,
documents and checks it.

A class of settings is a frozen dataclass that derives from `Settings`. Its fields are made by
`setting`, or hold another class of settings: `group` puts the name of the field in front
(`icem.evaluations`), `inline` does not.

Rules between settings stand in `__post_init__`, which raises ValueError. Nodes derive their ROS
parameters from the class, the core takes its instances, and the reference lists its fields.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

AnySettings = TypeVar("AnySettings")

_METADATA = "setting"
_GROUP = "group"
_TYPE_NAMES = {bool: "bool", int: "integer", float: "float", str: "text", type(None): "nothing"}


class SettingsError(ValueError):
    """A setting is unknown, has a bad value or contradicts another; the text names each."""


@dataclass(frozen=True)
class Parameter:
    """One setting under its full name.

    Attributes:
        name: with the names of its groups in front (`icem.evaluations`).
        default: bool, int, float, str or a tuple of one of these; its type is the setting's.
        description: what it decides, without a full stop.
        unit: physical unit, empty for none.
        minimum, maximum: range of a number, or of each number of a tuple, both ends included.
        choices: the texts allowed; empty for any.
        length: number of entries of a tuple, None for any.
        live: how it may change while its node is active: "" (not at all), "any", or "lower" and
            "raise" for bounds that may only become narrower than they were when configured.
        shared: "same" for what all nodes must agree on and "common" for a default of all nodes that
            one may override; both are set once, in a section `/**`.
    """

    name: str
    default: Any
    description: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    length: int | None = None
    live: str = ""
    shared: str = ""

    def check(self, value: Any) -> Any:
        """Return the value in the setting's type (a whole number may stand for a float).

        Raises:
            SettingsError: it is of another type, not finite, out of range or no choice.
        """
        if isinstance(self.default, tuple):
            return self._check_list(value)
        return self._check_one(value, self.default)

    def _check_list(self, value: Any) -> tuple:
        if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__len__"):
            raise SettingsError(f"{self.name} must be a list, not {value!r}")
        if self.length is not None and len(value) != self.length:
            raise SettingsError(f"{self.name} must have {self.length} entries, not {len(value)}")
        example = self.default[0] if self.default else ""
        return tuple(self._check_one(entry, example) for entry in value)

    def _check_one(self, value: Any, example: Any) -> Any:
        kind = type(example)
        # Numbers of numpy derive from Python's; a bool is an int there, too.
        if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not kind:
            raise SettingsError(
                f"{self.name} must be of type {type_name(kind)}, not "
                f"{type_name(type(value))} ({value!r})"
            )
        if kind is float and not math.isfinite(value):
            raise SettingsError(f"{self.name} must be finite, not {value}")
        below = self.minimum is not None and value < self.minimum
        above = self.maximum is not None and value > self.maximum
        if below or above:
            raise SettingsError(f"{self.name} is {value}, but must be {self.range_text()}")
        if self.choices and value not in self.choices:
            raise SettingsError(
                f"{self.name} is {value!r}, but must be one of {', '.join(self.choices)}"
            )
        return value

    def range_text(self) -> str:
        """The range for a person, with the unit; empty without one."""
        unit = f" {self.unit}" if self.unit else ""
        if self.minimum is not None and self.maximum is not None:
            return f"from {self.minimum} to {self.maximum}{unit}"
        if self.minimum is not None:
            return f"at least {self.minimum}{unit}"
        return "" if self.maximum is None else f"at most {self.maximum}{unit}"


class Settings:
    """Base of the classes of settings: an instance has checked values, however it was created.

    Raises:
        SettingsError: a value is of another type or out of range.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            if _METADATA in field.metadata:
                declared = dataclasses.replace(field.metadata[_METADATA], name=field.name)
                object.__setattr__(self, field.name, declared.check(getattr(self, field.name)))


def setting(
    default: Any,
    description: str,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    *,
    choices: Iterable[str] = (),
    length: int | None = None,
    live: str = "",
    shared: str = "",
) -> Any:
    """A dataclass field that declares a setting; see `Parameter` for the arguments."""
    declared = Parameter(
        "", default, description, unit, minimum, maximum, tuple(choices), length, live, shared
    )
    return dataclasses.field(default=default, metadata={_METADATA: declared})


def group(settings: type) -> Any:
    """A dataclass field that holds another class of settings, named under the field's name."""
    return dataclasses.field(default_factory=settings, metadata={_GROUP: (settings, True)})


def inline(settings: type) -> Any:
    """A dataclass field that holds another class of settings, which keep their own names."""
    return dataclasses.field(default_factory=settings, metadata={_GROUP: (settings, False)})


def parameters_of(settings: type) -> dict[str, Parameter]:
    """All settings of a class by their full names, in the order of declaration.

    A default is the one of an instance: a group may be given other defaults than its class has.
    """
    return _parameters(settings)


@lru_cache
def _parameters(settings: Any) -> dict[str, Parameter]:
    return _declared(settings(), "")


def _declared(instance: Any, prefix: str) -> dict[str, Parameter]:
    found: dict[str, Parameter] = {}
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        if _GROUP in field.metadata:
            _, named = field.metadata[_GROUP]
            found |= _declared(value, f"{prefix}{field.name}." if named else prefix)
        else:
            name = prefix + field.name
            found[name] = dataclasses.replace(field.metadata[_METADATA], name=name, default=value)
    return found


def values_of(instance: Any) -> dict[str, Any]:
    """The values of an instance of settings by their full names."""
    return {name: parameter.default for name, parameter in _declared(instance, "").items()}


def build(settings: type[AnySettings], given: Mapping[str, Any]) -> AnySettings:
    """An instance of a class of settings, with what is given instead of the defaults.

    Args:
        given: values by full name.

    Raises:
        SettingsError: names every unknown setting, every bad value and the first broken rule.
    """
    known = parameters_of(settings)
    values, problems = {}, []
    for name, value in given.items():
        if name not in known:
            problems.append(f"unknown parameter {name!r}{suggestion(name, known)}")
            continue
        try:
            values[name] = known[name].check(value)
        except SettingsError as error:
            problems.append(str(error))
    if problems:
        raise SettingsError("; ".join(problems))
    try:
        return _assemble(settings(), values, "")
    except SettingsError:
        raise
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _assemble(instance: Any, values: Mapping[str, Any], prefix: str) -> Any:
    changes = {}
    for field in dataclasses.fields(instance):
        if _GROUP in field.metadata:
            _, named = field.metadata[_GROUP]
            inner = f"{prefix}{field.name}." if named else prefix
            changes[field.name] = _assemble(getattr(instance, field.name), values, inner)
        elif prefix + field.name in values:
            changes[field.name] = values[prefix + field.name]
    return dataclasses.replace(instance, **changes)


def suggestion(name: str, known: Iterable[str]) -> str:
    """What may have been meant by an unknown name, as the end of a sentence."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    # Names that only lack their group, such as `evaluations`.
    grouped = [other for other in known if other.rpartition(".")[2] == name]
    if close or grouped:
        return f" (did you mean {' or '.join(repr(other) for other in (grouped or close)[:7])}?)"
    return f" (known: {', '.join(known)})"


def refuse_live(parameter: Parameter, configured: Any, value: Any) -> str:
    """Why a parameter may not take a value while its node is active; empty if it may.

    Args:
        parameter: as declared.
        configured: its value when the node was configured.
        value: in the parameter's type.
    """
    if parameter.live == "any":
        return ""
    if not parameter.live:
        return f"{parameter.name} cannot change while the node is active"
    pairs = zip(_entries(value), _entries(configured), strict=True)
    lower = parameter.live == "lower"
    if all(new <= old if lower else new >= old for new, old in pairs):
        return ""
    bound = "above" if lower else "below"
    return (
        f"{parameter.name} {value} is {bound} its configured value {configured}: while the node is "
        "active this bound may only become narrower"
    )


def _entries(value: Any) -> tuple:
    return value if isinstance(value, tuple) else (value,)


def type_name(kind: type) -> str:
    """Name of a type in messages and in the reference."""
    return _TYPE_NAMES.get(kind, kind.__name__)
