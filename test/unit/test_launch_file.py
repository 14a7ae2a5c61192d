# SPDX-License-Identifier: Apache-2.0
"""The launch file, as far as it can be looked at without a stock ROS 2."""

import configparser
import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml

from vjepa2_ros.stack.start import HARDWARE, SIMULATION

ROOT = Path(__file__).resolve().parents[2]
LAUNCH_FILE = ROOT / "launch" / "pick_place.launch.py"
PROCESSES = {*SIMULATION, *HARDWARE, "lifecycle_manager"}


def test_the_launch_file_compiles():
    compile(LAUNCH_FILE.read_text(), str(LAUNCH_FILE), "exec")


def test_every_process_is_an_entry_point_with_a_parameter_file_of_its_name():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    entry_points = setup["options.entry_points"]["vjepa2_ros.nodes"]
    for name in PROCESSES:
        assert f"{name} = vjepa2_ros.nodes.{name}:main" in entry_points
        content = yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text())
        assert list(content) == [f"/**/{name}"]


@pytest.fixture
def nodes_of(monkeypatch):
    """What the launch file starts with some arguments, by name, without `ros2 launch`."""

    class Argument:
        def __init__(self, name):
            self.name = name

        def perform(self, values):
            return values[self.name]

    names = {
        "launch": ["LaunchDescription"],
        "launch.actions": ["DeclareLaunchArgument", "OpaqueFunction", "Shutdown"],
        "launch.substitutions": ["LaunchConfiguration"],
        "launch_ros": [],
        "launch_ros.actions": ["Node"],
    }
    for name, classes in names.items():
        module = ModuleType(name)
        for one in classes:
            setattr(module, one, Argument if one == "LaunchConfiguration" else SimpleNamespace)
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("pick_place", LAUNCH_FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    defaults = {name: default for name, default, _ in module.ARGUMENTS}

    def start(**arguments):
        return {node.name: node for node in module.launch_nodes({**defaults, **arguments})}

    return start


def changes(node):
    return [entry for entry in node.parameters if isinstance(entry, dict)]


def test_the_seed_of_the_parameter_file_is_overruled_only_by_one_that_is_given(nodes_of):
    assert changes(nodes_of()["simulator_node"]) == []
    assert changes(nodes_of(seed="0")["simulator_node"]) == [{"seed": 0}]


def test_a_camera_and_a_checkpoint_change_the_nodes_that_they_concern(nodes_of):
    nodes = nodes_of(simulation="false", camera="/dev/video3", checkpoint="mine", seed="4")
    assert changes(nodes["camera_node"]) == [{"source": "device", "path": "/dev/video3"}]
    assert changes(nodes["planner_node"]) == [{"checkpoint": "mine"}]
    assert changes(nodes["controller_node"]) == [] and "simulator_node" not in nodes


@pytest.mark.skipif(
    importlib.util.find_spec("launch_ros") is None,
    reason="`ros2 launch` IS ABSENT: the launch file is compiled, not run",
)
@pytest.mark.parametrize("simulation, nodes", [("true", SIMULATION), ("false", HARDWARE)])
def test_the_launch_file_starts_a_process_for_each_node(simulation, nodes):
    from launch import LaunchContext

    spec = importlib.util.spec_from_file_location("pick_place", LAUNCH_FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    context = LaunchContext()
    defaults = {name: default for name, default, _ in module.ARGUMENTS}
    context.launch_configurations.update({**defaults, "simulation": simulation})
    started = [action.node_executable for action in module.launch_nodes(context)]
    assert started == [*nodes, "lifecycle_manager"]
    assert module.generate_launch_description().entities
