# SPDX-License-Identifier: Apache-2.0
"""The documentation names what the code has: parameters, fields, services, commands, files."""

import argparse
import ast
import importlib
import re
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader

import pytest
from workspace import ROOT

from vjepa2_ros.cli.main import COMMANDS

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
REFERENCE = (ROOT / "docs/reference.md").read_text()
INTERFACES = [*sorted(ROOT.glob("msg/*.msg")), *sorted(ROOT.glob("srv/*.srv"))]


def section(heading: str) -> str:
    """Text below a heading of the reference, up to the next one of the same or a higher level."""
    start = re.search(rf"^(#+) {re.escape(heading)}$", REFERENCE, re.MULTILINE)
    assert start, f"docs/reference.md has no heading {heading!r}"
    rest = REFERENCE[start.end() :]
    end = re.search(rf"^#{{1,{len(start[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def named(text: str) -> set[str]:
    """Everything that stands in backquotes."""
    return set(re.findall(r"`([^`\n]+)`", text))


def names_of(interface) -> set[str]:
    """Fields and constants that a .msg or .srv file declares."""
    lines = [line.partition("#")[0].strip() for line in interface.read_text().splitlines()]
    declared = re.findall(r"^[\w/]+(?:\[\d*\])? +(\w+)", "\n".join(lines), re.MULTILINE)
    assert declared, f"{interface.name} declares nothing"
    return set(declared)


def anchors(document) -> set[str]:
    """Anchors that GitHub makes of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_tables_of_parameters_are_those_of_the_nodes():
    pytest.importorskip("rclpy", reason="ROS 2 IS ABSENT: the tables of parameters are not checked")
    loader = SourceFileLoader("parameter_tables", str(ROOT / "scripts/parameter-tables"))
    tables = module_from_spec(spec_from_loader(loader.name, loader))
    loader.exec_module(tables)
    for node in tables.NODES:
        assert tables.table(node) in section(node), (
            f"docs/reference.md is behind {node}: .venv/bin/python scripts/parameter-tables"
        )


def test_every_node_has_a_table_of_parameters():
    nodes = {file.stem for file in (ROOT / "vjepa2_ros/nodes").glob("*_node.py")}
    for node in nodes | {"lifecycle_manager"}:
        assert f"<!-- parameters of {node} -->" in section(node)


@pytest.mark.parametrize("interface", INTERFACES, ids=lambda interface: interface.stem)
def test_every_field_of_a_message_is_described(interface):
    assert names_of(interface) - named(section(interface.stem)) == set()


def test_every_topic_and_service_of_a_node_is_listed():
    sources = "".join(file.read_text() for file in (ROOT / "vjepa2_ros/nodes").glob("*.py"))
    offered = set(re.findall(r"(?:advertise|serve)\(\w+, \"([\w/]+)\"", sources))
    assert offered - named(section("Topics")) - named(section("Services")) == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_described_with_its_options(command):
    parser = argparse.ArgumentParser(add_help=False)
    importlib.import_module(f"vjepa2_ros.cli.{command}").add_arguments(parser)
    options = {option for action in parser._actions for option in action.option_strings}
    described = section(f"vjepa2-ros {command}")
    missing = {option for option in options if not re.search(rf"`{option}[ `]", described)}
    assert missing == set()
    assert f"`vjepa2-ros {command}`" in section("Exit codes")


def test_every_launch_argument_is_described():
    for launch_file in (ROOT / "launch").glob("*.launch.py"):
        (table,) = re.findall(r"^ARGUMENTS = (\(.*?^\))", launch_file.read_text(), re.M | re.S)
        names = {name for name, *_ in ast.literal_eval(table)}
        assert names - named(section("Launch file")) == set()
        assert launch_file.name in section("Launch file")


def test_every_make_target_is_described():
    targets = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {f"make {target}" for target in targets} - named(section("make")) == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_link_leads_somewhere(document):
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path) if path else document
        assert file.exists(), f"{document.name} links to {target}"
        if anchor:
            assert anchor in anchors(file), f"{document.name} links to {target}"
