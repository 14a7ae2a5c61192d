# SPDX-License-Identifier: Apache-2.0
"""The launch file and what its arguments mean, as far as can be seen without a stock ROS 2."""

import argparse
import configparser
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from vjepa2_ros.cli import up
from vjepa2_ros.ros.deadlines import END_WITH_PARENT_OPTION, WIND_DOWN_OPTION
from vjepa2_ros.settings.declaration import SettingsError
from vjepa2_ros.settings.simulator import CAMERA_POSE
from vjepa2_ros.settings.stack import MANAGER, NODES, VISUALIZER, managed_nodes
from vjepa2_ros.stack.launching import ARGUMENTS, plan_stack
from vjepa2_ros.stack.process_group import ProcessGroupError

ROOT = Path(__file__).resolve().parents[2]
LAUNCH_FILE = ROOT / "launch" / "pick_place.launch.py"
with_launch = pytest.mark.skipif(
    importlib.util.find_spec("launch_ros") is None,
    reason="`ros2 launch` IS ABSENT: the launch file is read with stand-ins, not run",
)


@pytest.fixture(autouse=True)
def own_domain(monkeypatch):
    """Another run of the tests on this machine must not hold the namespace."""
    monkeypatch.setenv("ROS_DOMAIN_ID", f"test-{os.getpid()}")


# Arguments ----------------------------------------------------------------------------------


def test_every_node_is_an_entry_point():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options.entry_points"]["vjepa2_ros.nodes"].strip().splitlines()
    assert {line.partition(" = ")[0] for line in lines} == set(NODES)
    assert {line.partition(" = ")[2] for line in lines} == {"vjepa2_ros.nodes.__main__:main"}


@pytest.mark.parametrize("text", ["true", "True", "1", "yes", "on"])
def test_what_means_true_starts_the_simulation(text):
    assert plan_stack({"simulation": text}).nodes == (*managed_nodes("simulation"), MANAGER)


@pytest.mark.parametrize("text", ["false", "FALSE", "0", "no", "off"])
def test_what_means_false_starts_the_hardware(text):
    assert plan_stack({"simulation": text}).nodes == (*managed_nodes("hardware"), MANAGER)


def test_without_arguments_only_the_declared_defaults_hold():
    plan = plan_stack({})
    assert plan.namespace == "/vjepa2" and plan.log_level == "info"
    pose = list(CAMERA_POSE)
    assert plan.parameters.pop(VISUALIZER) == {"camera_pose": pose}
    assert not any(plan.parameters.values())


def test_a_seed_a_camera_and_a_checkpoint_reach_the_nodes_that_they_concern():
    assert plan_stack({"seed": "4"}).parameters["simulator_node"] == {"seed": 4}
    given = {"simulation": "false", "camera": "/dev/video3", "checkpoint": "mine"}
    parameters = plan_stack(given).parameters
    assert parameters["camera_node"] == {"source": "device", "path": "/dev/video3"} or (
        parameters["camera_node"] == {"path": "/dev/video3"}
    )
    assert parameters["planner_node"] == parameters["encoder_node"] == {"checkpoint": "mine"}
    assert parameters["controller_node"] == {}
    assert parameters[MANAGER] == {"nodes": list(managed_nodes("hardware"))}


@pytest.mark.parametrize("where", ["simulation", "hardware"])
def test_the_two_sides_are_the_whole_stack_and_one_manager_manages_both(where):
    given = {"simulation": str(where == "simulation")}
    robot, gpu = (plan_stack({**given, "side": side}) for side in ("robot", "gpu"))
    assert sorted(robot.nodes + gpu.nodes) == sorted((*managed_nodes(where), MANAGER))
    assert MANAGER in robot.nodes and "controller_node" in robot.nodes
    managed = robot.parameters[MANAGER].get("nodes", plan_stack({}).nodes[:-1])
    assert list(managed) == list(managed_nodes(where))
    assert robot.has_network and gpu.has_network


def test_a_parameter_file_is_merged_and_checked(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("/**/planner_node: {ros__parameters: {status_rate: 8.0}}\n")
    assert plan_stack({"params_file": str(file)}).parameters["planner_node"] == {"status_rate": 8.0}
    file.write_text("/**/planner_node: {ros__parameters: {status_rat: 8.0}}\n")
    with pytest.raises(SettingsError, match="status_rat"):
        plan_stack({"params_file": str(file)})


def test_a_real_robot_does_not_move_by_images_of_the_simulation(tmp_path):
    file = tmp_path / "my_cell.yaml"
    file.write_text("/**: {ros__parameters: {robot: franka}}\n")
    arguments = {"params_file": str(file)}
    with pytest.raises(SettingsError, match="172.16.0.2 would move by images of the simulation"):
        plan_stack(arguments)
    plan_stack({**arguments, "side": "gpu"})
    plan_stack({**arguments, "simulation": "false", "camera": "/dev"})
    plan_stack({"preset": "simulated_franka"})
    with pytest.raises(SettingsError, match="172.16.0.3 would move"):
        file.write_text("/**/controller_node: {ros__parameters: {franka: {host: 172.16.0.3}}}\n")
        plan_stack({**arguments, "preset": "simulated_franka"})


def test_with_the_images_of_another_driver_no_camera_node_is_started():
    plan = plan_stack({"camera": "topic"})
    assert "camera_node" not in plan.nodes and "simulator_node" not in plan.nodes
    assert "camera_node" not in plan.parameters[MANAGER]["nodes"]
    assert "encoder_node" in plan.nodes


REFUSALS = [
    ({"simulation": "ture"}, "simulation:=ture is neither true nor false"),
    ({"rviz": ""}, "rviz:= is neither true nor false"),
    ({"camera": "/dev/video0", "simulation": "true"}, "leave simulation out"),
    ({"robot_ip": "172.16.0.2"}, "give robot:=franka, too"),
    ({"panel": "true", "visualizer": "false"}, "shows what visualizer_node makes"),
    ({"robot": "franka", "simulation": "true"}, "would move by images of the simulation"),
    ({"planner": "guess"}, "unknown planner 'guess'"),
    ({"seed": "abc"}, "seed:=abc is not an integer"),
    ({"seed": "-1"}, "seed is -1"),
    ({"seed": "1", "simulation": "false"}, "seed:=1 is of the simulation"),
    ({"namespace": "no name"}, "namespace:='no name' is not a namespace"),
    ({"side": "left"}, "side:=left is unknown: use all, robot, gpu"),
    ({"side": "gpu", "seed": "1"}, "seed belong to the robot side"),
    ({"log_level": "loud"}, "log_level:=loud is unknown: use debug, info"),
    ({"params_file": "/no/such.yaml"}, "/no/such.yaml: No such file"),
    ({"preset": "peper"}, "unknown preset 'peper'"),
    
]


def test_a_robot_or_a_camera_takes_the_place_of_the_simulation():
    given = {"robot": "franka", "robot_ip": "172.16.0.7", "planner": "cem"}
    for arguments in (given, {"camera": "/dev/video3"}, {**given, "camera": "/dev/video3"}):
        assert plan_stack(arguments).managed == managed_nodes("hardware")
    parameters = plan_stack(given).parameters
    assert parameters["controller_node"] == {"robot": "franka", "franka.host": "172.16.0.7"}
    assert parameters["planner_node"]["planner"] == "cem"
    assert plan_stack({"robot": "simulator"}).managed == managed_nodes("simulation")


@pytest.mark.parametrize(
    "words, arguments",
    [
        ([], {}),
        (["--seed", "4", "--preset", "paper"], {"seed": "4", "preset": "paper"}),
        (["--camera", "/dev/video3"], {"camera": "/dev/video3"}),
        (["--side", "robot"], {"side": "robot"}),
        (
            ["--robot", "franka", "--robot-ip", "172.16.0.7", "--namespace", "arm", "--panel"],
            {"robot": "franka", "robot_ip": "172.16.0.7", "namespace": "arm", "panel": "true"},
        ),
        (["--no-visualizer", "--planner", "icem"], {"visualizer": "false", "planner": "icem"}),
    ],
)
def test_up_and_the_launch_file_start_the_same(words, arguments, monkeypatch):
    given = {}

    def start_stack(group, nodes, parameters, namespace, stop, side, watchers):
        given.update(nodes=nodes, parameters=parameters, namespace=namespace, side=side,
                     watchers=watchers)  # fmt: skip
        raise ProcessGroupError("enough")

    monkeypatch.setattr("vjepa2_ros.stack.start.start_stack", start_stack)
    parser = argparse.ArgumentParser()
    up.add_arguments(parser)
    assert up.run(parser.parse_args(words)) == 1
    plan = plan_stack(arguments)
    assert given == {
        "nodes": plan.managed,
        "parameters": plan.parameters,
        "namespace": plan.namespace,
        "side": plan.side,
        "watchers": plan.watchers,
    }


@pytest.mark.parametrize("arguments, text", REFUSALS)
def test_what_cannot_be_meant_is_refused_with_what_to_do(arguments, text):
    with pytest.raises(SettingsError) as caught:
        plan_stack(arguments)
    assert text in str(caught.value)


def test_launch_waits_longer_than_the_manager_before_it_uses_force(tmp_path):
    file = tmp_path / "slow.yaml"
    file.write_text(f"/**/{MANAGER}: {{ros__parameters: {{shutdown_timeout: 20.0}}}}\n")
    slow = plan_stack({"params_file": str(file)}).deadlines
    count = len(managed_nodes("simulation"))
    assert count * 20.0 < slow.wind_down < slow.terminate
    assert plan_stack({}).deadlines.terminate < slow.terminate


# The launch file with stand-ins -------------------------------------------------------------


@pytest.fixture
def launch_file(monkeypatch):
    """The launch file as a module, without `ros2 launch`."""

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
    module = load()
    yield module
    for claim in module._claims:
        claim.close()


def load():
    spec = importlib.util.spec_from_file_location("pick_place", LAUNCH_FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DEFAULTS = {name: default for name, default, _ in ARGUMENTS}


def test_each_process_gets_its_parameters_and_deadlines(launch_file):
    started = {node.name: node for node in launch_file.launch_nodes({**DEFAULTS, "seed": "5"})}
    assert list(started) == [*managed_nodes("simulation"), MANAGER, VISUALIZER]
    assert started["simulator_node"].parameters == [{"seed": 5}]
    assert started["planner_node"].parameters == []
    for name, node in started.items():
        assert node.executable == name
        assert float(node.sigterm_timeout) > 20.0 and float(node.sigkill_timeout) > 5.0


def test_what_only_watches_ends_with_launch_and_ends_nothing(launch_file):
    started = {node.name: node for node in launch_file.launch_nodes(DEFAULTS)}
    watcher = started[VISUALIZER]
    assert END_WITH_PARENT_OPTION in watcher.arguments
    assert WIND_DOWN_OPTION not in watcher.arguments
    running = SimpleNamespace(is_shutdown=False)
    assert watcher.on_exit(SimpleNamespace(returncode=-9), running) is None


def test_a_process_that_fails_ends_launch_with_a_failure(launch_file):
    node = launch_file.launch_nodes(DEFAULTS)[0]
    running, ending = SimpleNamespace(is_shutdown=False), SimpleNamespace(is_shutdown=True)
    with pytest.raises(RuntimeError, match="simulator_node ended with exit code 1"):
        node.on_exit(SimpleNamespace(returncode=1), running)
    with pytest.raises(RuntimeError, match="exit code -9"):
        node.on_exit(SimpleNamespace(returncode=-9), ending)
    assert node.on_exit(SimpleNamespace(returncode=0), running).reason == "simulator_node ended"
    for code in (0, -2, -15):
        assert node.on_exit(SimpleNamespace(returncode=code), ending) is None


def test_with_a_real_robot_it_says_what_the_network_can_reach(launch_file, capsys):
    launch_file.launch_nodes({**DEFAULTS, "namespace": "simulated"})
    assert capsys.readouterr().out == ""
    launch_file.launch_nodes({**DEFAULTS, "simulation": "false"})
    assert "discovery range" in capsys.readouterr().out


def test_a_second_launch_in_the_namespace_is_refused(launch_file):
    launch_file.launch_nodes(DEFAULTS)
    with pytest.raises(RuntimeError, match="another stack runs in namespace /vjepa2"):
        launch_file.launch_nodes(DEFAULTS)
    assert launch_file.launch_nodes({**DEFAULTS, "namespace": "other"})


# With a stock ROS 2 -------------------------------------------------------------------------


@with_launch
@pytest.mark.parametrize("where", ["simulation", "hardware"])
def test_the_launch_file_starts_a_process_for_each_node(where):
    from launch import LaunchContext

    module = load()
    context = LaunchContext()
    simulation = str(where == "simulation")
    context.launch_configurations.update({**DEFAULTS, "simulation": simulation})
    started = [action.node_executable for action in module.launch_nodes(context)]
    assert started == [*managed_nodes(where), MANAGER]
    assert module.generate_launch_description().entities
    for claim in module._claims:
        claim.close()


@with_launch
def test_an_argument_that_is_refused_ends_launch_with_a_failure():
    from launch import LaunchService

    module = load()
    service = LaunchService()
    service.context.launch_configurations["simulation"] = "ture"
    service.include_launch_description(module.generate_launch_description())
    assert service.run() != 0
