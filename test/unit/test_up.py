# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros up`: what its arguments change, and the folders of parameter files it refuses."""

import argparse

import pytest

from vjepa2_ros.cli import up
from vjepa2_ros.stack.process_group import ProcessGroup
from vjepa2_ros.stack.start import HARDWARE, PROCESSES, SIMULATION


def parse(*words):
    parser = argparse.ArgumentParser()
    up.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def test_the_seed_of_a_parameter_file_is_overruled_only_by_one_that_is_given():
    assert up.nodes_and_changes(parse()) == (SIMULATION, {})
    for number in (0, 3):
        _, changes = up.nodes_and_changes(parse("--seed", number))
        assert changes == {"simulator_node": {"seed": number}}


def test_a_camera_takes_the_place_of_the_simulation(tmp_path):
    nodes, changes = up.nodes_and_changes(parse("--camera", tmp_path))
    assert nodes == HARDWARE
    assert changes == {"camera_node": {"source": "folder", "path": str(tmp_path)}}


def test_a_folder_may_hold_a_file_for_each_process(tmp_path):
    for name in PROCESSES:
        (tmp_path / f"{name}.yaml").touch()
    (tmp_path / "notes.txt").touch()
    wanted = {name: tmp_path / f"{name}.yaml" for name in PROCESSES}
    assert up.parameter_files(tmp_path) == wanted
    assert {"simulator_node", "camera_node", "lifecycle_manager"} < set(wanted)


@pytest.fixture(autouse=True)
def no_process(monkeypatch):
    """What is refused must not start anything."""
    monkeypatch.setattr(ProcessGroup, "start", lambda *_: pytest.fail("a process was started"))


def refused(folder, capsys):
    assert up.run(parse("--config", folder)) == 2
    return capsys.readouterr().err


def test_a_folder_that_is_not_there_is_refused(tmp_path, capsys):
    assert "there is no such folder" in refused(tmp_path / "absent", capsys)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path, capsys):
    (tmp_path / "planner_node.yaml").touch()
    assert "there is no such folder" in refused(tmp_path / "planner_node.yaml", capsys)


def test_a_folder_without_parameter_files_is_refused_with_the_names_known(tmp_path, capsys):
    said = refused(tmp_path, capsys)
    assert "holds none of" in said and "planner_node.yaml" in said


def test_a_file_that_is_named_after_no_node_is_refused_with_the_names_known(tmp_path, capsys):
    (tmp_path / "planner_node.yaml").touch()
    (tmp_path / "planer_node.yaml").touch()
    said = refused(tmp_path, capsys)
    assert "no node reads planer_node.yaml" in said and "lifecycle_manager.yaml" in said
