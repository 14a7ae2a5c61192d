# SPDX-License-Identifier: Apache-2.0
"""The package in a ROS workspace: built by colcon, used after `source install/setup.bash`.

One build serves all tests here. The source tree holds an in-place build of the messages at
the same time (scripts/setup), and none of it may end up in the workspace.
"""

import configparser
import json
import os
import re
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from workspace import ROOT, shell, source_ros

INSTALLED = Path("install/vjepa2_ros")

SEARCHED = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("colcon", path=SEARCHED) is None, reason="colcon is not installed"
    ),
]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "src").mkdir()
    (folder / "src/vjepa2_ros").symlink_to(ROOT)
    # colcon by itself starts no compiler while the load is above the number of cores, and what is
    # tested is not how fast the code is.
    quick = "export MAKEFLAGS=-j2 CFLAGS=-O0 CXXFLAGS=-O0\n"
    shell(
        f"{source_ros()}{quick}colcon build --event-handlers console_cohesion+ "
        f"--cmake-args -DPython3_EXECUTABLE={sys.executable}",
        folder,
    )
    return folder


def python(workspace: Path, code: str):
    """What a Python program prints as JSON in a shell that has sourced the workspace."""
    (workspace / "program.py").write_text(code)
    output = shell(f"{source_ros()}source install/setup.bash\npython3 program.py", workspace)
    return json.loads(output.splitlines()[-1])


def entry_points() -> dict[str, str]:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    lines = "\n".join(parser["options.entry_points"].values()).strip().splitlines()
    return dict(re.split(r"\s*=\s*", line.strip()) for line in lines if line.strip())


def test_colcon_finds_the_package_once(workspace):
    listed = shell(f"{source_ros()}colcon list --names-only", workspace).split()
    assert listed == ["vjepa2_ros"]


def test_messages_services_and_modules_import_from_one_package(workspace):
    modules = ["msg", "srv", "nodes", "world_model", "planning", "robot"]
    folders = python(
        workspace,
        "import importlib, json\n"
        f"names = ['vjepa2_ros.' + name for name in {modules}]\n"
        "print(json.dumps([importlib.import_module(name).__path__[0] for name in names]))\n",
    )
    (package,) = {Path(folder).parent for folder in folders}
    assert package.is_relative_to(workspace / INSTALLED)


def test_every_message_and_service_survives_serialisation(workspace):
    names = python(
        workspace,
        "import json\n"
        "from rclpy.serialization import deserialize_message, serialize_message\n"
        "import vjepa2_ros.msg, vjepa2_ros.srv\n"
        "generated = [*vars(vjepa2_ros.msg).values(), *vars(vjepa2_ros.srv).values()]\n"
        "types = [kind for kind in generated if hasattr(kind, 'get_fields_and_field_types')]\n"
        "for kind in types:\n"
        "    assert deserialize_message(serialize_message(kind()), kind) == kind(), kind\n"
        "print(json.dumps([kind.__name__ for kind in types]))\n",
    )
    messages = {file.stem for file in ROOT.glob("msg/*.msg")}
    answers = {f"{file.stem}_Response" for file in ROOT.glob("srv/*.srv")}
    assert messages | answers <= set(names)


def test_the_programs_are_those_of_setup_cfg(workspace):
    programs = list((workspace / INSTALLED / "lib/vjepa2_ros").iterdir())
    assert {program.name for program in programs} == set(entry_points())
    assert all(os.access(program, os.X_OK) for program in programs)
    for program in programs:
        module, function = entry_points()[program.name].split(":")
        assert f"from {module} import {function}\n" in program.read_text()


def test_the_command_line_starts_from_the_workspace(workspace):
    program = INSTALLED / "lib/vjepa2_ros/vjepa2-ros"
    assert "usage" in shell(f"{source_ros()}source install/setup.bash\n{program} --help", workspace)


def test_cmake_exports_the_version_of_the_manifest(workspace):
    version = ElementTree.parse(ROOT / "package.xml").findtext("version")
    file = workspace / INSTALLED / "share/vjepa2_ros/cmake/vjepa2_rosConfig-version.cmake"
    assert f'"{version}"' in file.read_text()


def test_the_share_directory_is_the_workspaces_own(workspace):
    share = Path(
        python(
            workspace,
            "import json\n"
            "from vjepa2_ros.share import share_directory\n"
            "print(json.dumps(str(share_directory())))\n",
        )
    )
    assert share == workspace / INSTALLED / "share/vjepa2_ros"
    for folder in ("config", "launch", "models"):
        wanted = {file.name for file in (ROOT / folder).glob("*") if file.name != "__pycache__"}
        assert {file.name for file in (share / folder).glob("*")} == wanted
