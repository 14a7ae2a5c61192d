# SPDX-License-Identifier: Apache-2.0
"""The documentation describes what the code has, and every link in it leads somewhere."""

import ast
import importlib.util
import re
from functools import cache
from importlib.machinery import SourceFileLoader

import pytest
from workspace import ROOT

from vjepa2_ros.cli.main import COMMANDS
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.settings.files import resolve
from vjepa2_ros.settings.stack import NODES, known_parameters

REFERENCE = sorted((ROOT / "docs/reference").glob("*.md"))
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *REFERENCE,
    *sorted((ROOT / "examples").glob("*.md")),
    *sorted((ROOT / "test").glob("**/README.md")),
]
CODE_BLOCK = re.compile(r"```.*?```", re.DOTALL)


def section(document: str, heading: str) -> str:
    """Text below a heading of a document of the reference, up to the next one of its level."""
    text = (ROOT / "docs/reference" / f"{document}.md").read_text()
    start = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert start, f"docs/reference/{document}.md has no heading {heading!r}"
    rest = text[start.end() :]
    end = re.search(rf"^#{{1,{len(start[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def named(text: str) -> set[str]:
    """Everything in backquotes."""
    return set(re.findall(r"`([^`\n]+)`", text))


@cache
def anchors(document) -> frozenset[str]:
    """Anchors that GitHub makes of a document's headings."""
    text = CODE_BLOCK.sub("", document.read_text())
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings)


@cache
def renewed_documents() -> dict:
    """What scripts/reference would write, by path."""
    loader = SourceFileLoader("reference", str(ROOT / "scripts/reference"))
    script = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(script)
    return script.documents()


@pytest.mark.parametrize("document", REFERENCE, ids=lambda document: document.name)
def test_generated_parts_of_the_reference_are_up_to_date(document):
    assert document.read_text() == renewed_documents()[document], (
        f"{document.name} is behind the code: run .venv/bin/python scripts/reference"
    )


def test_every_topic_and_service_of_a_node_is_listed():
    sources = "".join(
        file.read_text()
        for subpackage in ("nodes", "ros")
        for file in (ROOT / "vjepa2_ros" / subpackage).glob("*.py")
    )
    offered = set(re.findall(r"(?:advertise|serve)\(\s*\w+, \"([\w/]+)\"", sources))
    assert len(offered) > 10
    listed = named(section("nodes", "Topics")) | named(section("nodes", "Services"))
    assert offered - listed == set()


def test_every_node_is_listed():
    assert set(NODES) - named(section("nodes", "Nodes")) == set()


def test_every_launch_argument_is_described():
    from vjepa2_ros.stack.launching import ARGUMENTS

    described = section("nodes", "Launch file")
    rows = {row[1]: row[2] for row in re.findall(r"^(\| `(\w+)` \| (\S+) \|)", described, re.M)}
    assert rows == {name: f"`{value}`" if value else "–" for name, value, _ in ARGUMENTS}
    for launch_file in (ROOT / "launch").glob("*.launch.py"):
        assert launch_file.name in described


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_section_and_exit_codes(command):
    assert section("commands", f"vjepa2-ros {command}").strip()
    assert f"`vjepa2-ros {command}`" in section("commands", "Exit codes")


def test_every_make_target_is_described():
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {f"make {target}" for target in targets} - named(section("commands", "make")) == set()


def test_codes_in_the_documentation_exist():
    """The codes that the table of faults names."""
    text = (ROOT / "docs/explanation.md").read_text()
    table = text.partition("## What happens when something fails")[2].partition("\n## ")[0]
    rows = [row for row in table.splitlines() if row.startswith("|")]
    codes = named("\n".join(row.rstrip(" |").rpartition("|")[2] for row in rows))
    assert len(codes) > 20
    assert codes - set(Reason.__members__) == set()


def parameter_files_in(document) -> list[str]:
    """YAML blocks of a document that are parameter files."""
    blocks = re.findall(r"```yaml\n(.*?)```", document.read_text(), re.DOTALL)
    return [block for block in blocks if "ros__parameters" in block]


@pytest.mark.parametrize(
    "document", list(filter(parameter_files_in, DOCUMENTS)), ids=lambda d: d.name
)
def test_parameter_files_in_the_documentation_are_accepted(document, tmp_path):
    for block in parameter_files_in(document):
        file = tmp_path / "mine.yaml"
        file.write_text(block)
        resolve([file])


def test_parameters_that_people_look_for_exist():
    text = (ROOT / "docs/how_to.md").read_text()
    table = text.partition("Parameters that people look for:")[2].partition("\n\n|")[2]
    rows = [row for row in table.partition("\n\n")[0].splitlines() if "`" in row]
    words = named("\n".join(rows))
    names = {word.partition(":")[0] for word in words if re.match(r"[a-z_.]+(:\s|$)", word)}
    assert len(names) > 8
    values = {choice for p in known_parameters().values() for choice in p.choices}
    assert names - set(known_parameters()) - values == set()


def imports_in(document) -> set[tuple[str, str]]:
    """Module and name of what code blocks of a document import from this package."""
    blocks = re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL)
    found = [node for block in blocks for node in ast.walk(ast.parse(block))]
    return {
        (node.module, alias.name)
        for node in found
        if isinstance(node, ast.ImportFrom) and node.module.startswith("vjepa2_ros")
        for alias in node.names
    }


@pytest.mark.parametrize("document", list(filter(imports_in, DOCUMENTS)), ids=lambda d: d.name)
def test_code_in_the_documentation_imports_what_exists(document):
    for module, name in imports_in(document):
        if "ros" in module.split(".")[1:] or module.endswith((".msg", ".srv")):
            pytest.importorskip("rclpy", reason="ROS 2 IS ABSENT: not all imports are checked")
        assert hasattr(importlib.import_module(module), name), f"{module} has no {name}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: str(d.relative_to(ROOT)))
def test_every_link_leads_somewhere(document):
    for target in re.findall(r"\]\(([^)\s]+)\)", CODE_BLOCK.sub("", document.read_text())):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), f"{document.name} links to {target}"
        if anchor:
            assert anchor in anchors(file), f"{document.name} links to {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: str(d.relative_to(ROOT)))
def test_no_image_follows_a_table_without_a_blank_line(document):
    """It would be rendered as a row of the table."""
    text = CODE_BLOCK.sub("", document.read_text())
    assert re.findall(r"^\|.*\n(!\[.*)", text, re.MULTILINE) == []
