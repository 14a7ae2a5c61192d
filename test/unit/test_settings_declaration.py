# SPDX-License-Identifier: Apache-2.0
"""Settings as dataclasses: declared once, checked, and shown by the shipped files."""

import runpy
from dataclasses import dataclass
from pathlib import Path

import pytest

from vjepa2_ros.settings.declaration import (
    SettingsError,
    build,
    group,
    inline,
    parameters_of,
    refuse_live,
    setting,
    values_of,
)
from vjepa2_ros.settings.stack import NODES

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Box:
    low: tuple[float, float] = setting((0.0, 0.0), "lower corner", "m", -1.0, 1.0, length=2)
    high: tuple[float, float] = setting((1.0, 1.0), "upper corner", "m", -1.0, 1.0, length=2)

    def __post_init__(self):
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")


@dataclass(frozen=True)
class Clock:
    rate: float = setting(10.0, "images per second", "Hz", 0.1, 120.0)


@dataclass(frozen=True)
class Example:
    box: Box = group(Box)
    clock: Clock = inline(Clock)
    name: str = setting("a", "name", choices=("a", "b"))


def test_groups_are_named_and_inline_settings_keep_their_names():
    assert list(parameters_of(Example)) == ["box.low", "box.high", "rate", "name"]


def test_values_go_where_they_are_declared():
    built = build(Example, {"box.high": [0.5, 1], "rate": 5})
    assert built == Example(box=Box(high=(0.5, 1.0)), clock=Clock(5.0))
    assert values_of(built) == {
        "box.low": (0.0, 0.0), "box.high": (0.5, 1.0), "rate": 5.0, "name": "a",
    }  # fmt: skip


@pytest.mark.parametrize(
    "value, text",
    [
        (0.0, "rate is 0.0, but must be from 0.1 to 120.0 Hz"),
        (500.0, "rate is 500.0, but must be from 0.1 to 120.0 Hz"),
        (float("nan"), "rate must be finite"),
        (float("inf"), "rate must be finite"),
        ("fast", "rate must be of type float, not text"),
        (True, "rate must be of type float, not bool"),
        ([1.0], "rate must be of type float, not list"),
        (None, "rate must be of type float, not nothing"),
    ],
)
def test_a_bad_value_is_refused_with_the_reason(value, text):
    with pytest.raises(SettingsError) as caught:
        build(Example, {"rate": value})
    assert text in str(caught.value)


@pytest.mark.parametrize("bad", [[0.0], [0.0, 3.0], 1.0, "ab", {"a": 1}, None])
def test_a_list_is_checked_entry_by_entry(bad):
    with pytest.raises(SettingsError, match="box.low"):
        build(Example, {"box.low": bad})


def test_a_rule_between_settings_is_checked_where_they_are_declared():
    with pytest.raises(SettingsError, match="must be below"):
        build(Example, {"box.low": [1.0, 1.0], "box.high": [0.5, 0.5]})


def test_all_problems_are_reported_at_once_with_what_may_have_been_meant():
    with pytest.raises(SettingsError) as caught:
        build(Example, {"rate": -1.0, "raet": 1.0, "low": [0.0, 0.0], "colour": 2})
    text = str(caught.value)
    assert "rate is -1.0" in text and "did you mean 'rate'?" in text
    assert "did you mean 'box.low'?" in text and "known: box.high" in text


@pytest.mark.parametrize(
    "live, configured, value, allowed",
    [
        ("any", 1.0, 5.0, True),
        ("", 1.0, 0.5, False),
        ("lower", 1.0, 0.5, True),
        ("lower", 1.0, 1.5, False),
        ("raise", (0.0, 0.0), (0.1, 0.0), True),
        ("raise", (0.0, 0.0), (0.1, -0.1), False),
    ],
)
def test_a_bound_may_only_become_narrower_than_configured(live, configured, value, allowed):
    box = parameters_of(Box)["low"]
    parameter = type(box)("bound", configured, "a bound", live=live)
    assert (refuse_live(parameter, configured, value) == "") == allowed


@pytest.mark.parametrize("node", NODES)
def test_every_parameter_is_described_and_its_default_allowed(node):
    for parameter in parameters_of(NODES[node].settings).values():
        assert parameter.description and not parameter.description.endswith(".")
        assert parameter.check(parameter.default) == parameter.default


def test_the_shipped_files_show_the_declared_settings():
    written = runpy.run_path(str(ROOT / "scripts" / "config-files"))["files"]()
    assert written == {path.name: path.read_text() for path in (ROOT / "config").glob("*.yaml")}
