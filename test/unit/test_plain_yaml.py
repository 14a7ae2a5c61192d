# SPDX-License-Identifier: Apache-2.0
"""YAML from others: files of parameters and gates, and what is written in bags."""

import pytest

from vjepa2_ros import plain_yaml
from vjepa2_ros.recording.reading import Recording
from vjepa2_ros.replay.gates import read_gates
from vjepa2_ros.settings.declaration import SettingsError

GROWING = "a: &a [1, 1, 1]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n"
"""With ten lines of ten it would be 10^10 numbers as soon as somebody writes it out."""


def test_an_alias_stands_for_what_it_names():
    assert plain_yaml.load("a: &a {x: 1}\nb: *a\nc: *a\n") == {
        "a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1},
    }  # fmt: skip


@pytest.mark.parametrize(
    "text, said",
    [
        (GROWING, "alias of an alias in line 3: 'b'"),
        ("a: 1\na: 2", "'a' is given twice"),
        ("a: &a [*a]", "recursive"),
        ("a: 2024-13-45", "month must be in"),
        ("[" * 5000, "recursion|nested"),
        ("a: !!bool x", "x"),
        ('a: !!int ""', "index"),
        ("a: !!timestamp x", "attribute"),
        ("!!python/object/apply:os.system [true]", "could not determine a constructor"),
    ],
)
def test_what_is_no_plain_value_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        plain_yaml.load(text)


def test_gates_that_grow_are_refused_with_the_name_of_the_file(tmp_path):
    (tmp_path / "gates.yaml").write_text(GROWING)
    with pytest.raises(SettingsError, match="gates.yaml is no YAML: alias of an alias"):
        read_gates(tmp_path / "gates.yaml")


def test_parameters_of_a_bag_that_grow_are_none():
    assert Recording("/a", metadata={"parameters": GROWING}).parameters() == {}
