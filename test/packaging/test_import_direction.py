# SPDX-License-Identifier: Apache-2.0
"""The packages inside the package import downwards only, and only the ROS shell imports ROS."""

import ast
import re

import pytest
from workspace import ROOT

from vjepa2_ros.robot.reason import Reason

PACKAGE = ROOT / "vjepa2_ros"
LAYERS = (
    {"share", "interrupts", "plain_json", "text"},
    {"settings"},
    {"world_model", "camera", "robot"},
    {"simulation", "planning", "video", "visualization"},
    {"execution", "tasks", "recording"},
    {"policies", "replay"},
    {"evaluation", "verification"},
    {"training", "benchmark"},
    {"diagnosis", "preflight"},
    # From here on ROS may be imported.
    {"msg", "srv"},
    {"ros"},
    {"nodes"},
    {"stack"},
    {"demo", "faults", "panel"},
    {"cli"},
    {"launch"},
)
"""From the lowest. A subpackage imports from lower layers and itself, not from its neighbours."""
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}
SHELL = {name for names in LAYERS[9:] for name in names}
ROS = {"rclpy", "launch", "launch_ros"}
FILES = [
    file
    for file in [*PACKAGE.rglob("*.py"), *ROOT.glob("launch/*.py")]
    if not {"msg", "srv"} & set(file.relative_to(ROOT).parts)
]


def subpackage_of(file):
    if file.parent.name == "launch":
        return "launch"
    path = file.relative_to(PACKAGE)
    return path.parts[0] if len(path.parts) > 1 else path.stem


def imports(file):
    """Modules that a file imports anywhere."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_subpackage_imports_upwards(file):
    own = subpackage_of(file)
    if own == "__init__":
        return
    for module in imports(file):
        if not module.startswith("vjepa2_ros."):
            continue
        other = module.split(".")[1]
        assert other == own or LAYER[other] < LAYER[own], f"{own} imports {module}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_only_the_shell_imports_ros(file):
    if subpackage_of(file) in SHELL:
        return
    for module in imports(file):
        package = module.split(".")[0]
        assert package not in ROS and not package.endswith(("_msgs", "_srvs", "_interfaces"))


def test_the_launch_file_does_not_reach_into_the_command_line():
    for file in ROOT.glob("launch/*.py"):
        assert not any(module.startswith("vjepa2_ros.cli") for module in imports(file))


def test_the_settings_import_nothing_heavy():
    heavy = {"torch", "numpy", "scipy", "transformers", "mujoco", "cv2", "rclpy"}
    for file in (PACKAGE / "settings").glob("*.py"):
        assert not {module.split(".")[0] for module in imports(file)} & heavy, file.name


def test_the_codes_of_the_messages_are_those_of_the_core():
    declared = re.findall(r"^uint16 (\w+)=(\d+)$", (ROOT / "msg/Reason.msg").read_text(), re.M)
    assert {name: int(value) for name, value in declared} == {r.name: int(r) for r in Reason}
    assert len(declared) == len(Reason)
