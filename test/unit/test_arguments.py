# SPDX-License-Identifier: Apache-2.0
"""Values on the command line: invalid ones are refused before anything starts."""

import argparse
import importlib

import pytest

from vjepa2_ros.cli import arguments

BAD = [
    ("demo", "--seed", "-1"),
    ("demo", "--seed", str(2**31)),
    ("demo", "--steps", "0"),
    ("demo", "--timeout", "0"),
    ("demo", "--timeout", "inf"),
    ("up", "--seed", "-1"),
    ("up", "--seed", "one"),
    ("goal", "--steps", "-1"),
    ("goal", "--steps", "0"),
    ("goal", "--steps", "3", "0"),
    ("goal", "--steps", "99999999999"),
    ("evaluate", "--seed", "-1"),
    ("evaluate", "--episodes", "0"),
    ("evaluate", "--steps", "0"),
    ("evaluate", "--processes", "0"),
    ("train", "--seed", "-1"),
    ("train", "--episodes", "0"),
    ("train", "--pretrain-iterations", "0"),
    ("train", "--predictor-iterations", "1.5"),
    ("train", "--state-weight", "-1"),
    ("train", "--state-weight", "nan"),
]
GOOD = [
    ("demo", "--seed", "0", 0),
    ("demo", "--timeout", "0.5", 0.5),
    ("up", "--seed", str(2**31 - 1), 2**31 - 1),
    ("goal", "--steps", "1", [1]),
    ("train", "--state-weight", "0", 0.0),
]


def parse(command, *words):
    parser = argparse.ArgumentParser(prog=command)
    importlib.import_module(f"vjepa2_ros.cli.{command}").add_arguments(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize("words", BAD, ids=" ".join)
def test_a_number_that_makes_no_sense_is_refused_with_its_option(words, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(*words)
    assert caught.value.code == 2
    assert f"argument {words[1]}: " in capsys.readouterr().err


@pytest.mark.parametrize(("command", "option", "text", "value"), GOOD)
def test_the_ends_of_the_range_are_taken(command, option, text, value):
    name = option.removeprefix("--")
    assert getattr(parse(command, option, text), name.replace("-", "_")) == value


@pytest.mark.parametrize("text", ["robot", "/robot", "/cell_1/robot"])
def test_a_namespace_may_leave_its_slash_out(text):
    assert arguments.namespace(text) == "/" + text.strip("/")


@pytest.mark.parametrize("command", ["up", "goal"])
@pytest.mark.parametrize("text", ["", "/", "1x", "~", "/a//b", "/a/", "no name", "\udcff"])
def test_what_no_node_can_have_as_its_namespace_is_refused(text, command, capsys):
    parser = argparse.ArgumentParser()
    importlib.import_module(f"vjepa2_ros.cli.{command}").add_arguments(parser)
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["--namespace", text])
    assert "is not a namespace: use letters, digits" in capsys.readouterr().err
