# SPDX-License-Identifier: Apache-2.0
"""The launch file, as far as it can be looked at without a stock ROS 2."""

import configparser
import importlib.util
from pathlib import Path

import pytest
import yaml

from vjepa2_ros.nodes.stack import HARDWARE, SIMULATION

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
