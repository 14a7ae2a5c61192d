# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros evaluate`: whose settings it takes, and what it refuses."""

import argparse
import json

import pytest
import torch
from small_model import small_world_model

from vjepa2_ros.cli import evaluate
from vjepa2_ros.evaluation.tasks import TASKS
from vjepa2_ros.world_model.checkpoint import save_world_model


@pytest.fixture
def model(tmp_path):
    """Folder of a small model."""
    save_world_model(small_world_model(), tmp_path / "model", {})
    return tmp_path / "model"


@pytest.fixture(autouse=True)
def threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def parse(*words):
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def run(*words):
    return evaluate.run(parse(*words))


def planner_file(folder, **parameters):
    path = folder / "planner.yaml"
    path.write_text(json.dumps({"planner_node": {"ros__parameters": parameters}}))
    return path


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"sampels": 3}, "sampels"),
        ({"cem.samples": "many"}, "cem.samples"),
        ({"planner": "best"}, "unknown planner 'best'"),
        ({"latent_quadratic.evaluations": 2}, "latent_quadratic.evaluations"),
        ({"cost": "l3"}, "cost"),
        ({"threads": 0}, "threads"),
        ({"dtype": "float8"}, "dtype"),
        ({"attention": "flashy"}, "attention"),
        ({"device": "abacus"}, "device"),
        ({"max_translation": 0.2}, "max_step"),
    ],
)
def test_a_bad_setting_is_refused_with_the_reason(tmp_path, capsys, model, parameters, said):
    path = planner_file(tmp_path, **parameters)
    options = ("--episodes", 1, "--steps", 1, "--output", tmp_path / "out")
    assert run("--checkpoint", model, "--config", path, *options) == 2
    printed = capsys.readouterr().out
    assert "cannot evaluate" in printed and said in printed


def test_a_missing_checkpoint_is_refused_with_what_to_give(tmp_path, capsys):
    assert run("--checkpoint", tmp_path / "nothing") == 2
    assert "no checkpoint" in capsys.readouterr().out


def test_more_episodes_than_a_seed_has_scenes_are_refused(capsys):
    assert run("--episodes", 10_001) == 2
    assert "10001 episodes" in capsys.readouterr().out


def test_a_file_changes_only_what_it_names_for_all_nodes_alike(tmp_path, model):
    path = tmp_path / "mine.yaml"
    sections = {
        "/**": {"checkpoint": str(model), "workspace.upper": [0.66, 0.25, 0.3]},
        "planner_node": {"latent_quadratic.evaluations": 16, "threads": 2},
    }
    path.write_text(json.dumps({k: {"ros__parameters": v} for k, v in sections.items()}))
    report = tmp_path / "report.json"
    options = ("--episodes", 1, "--steps", 1, "--output", tmp_path / "out", "--json", report)
    assert run("--config", path, *options) == 0
    figures = json.loads(report.read_text())
    assert figures["checkpoint"] == str(model) and figures["planner"]["evaluations"] == 16
    assert figures["planner"]["max_translation"] == 0.075
    assert figures["planner"]["workspace.upper"] == [0.66, 0.25, 0.3]
    assert figures["controller"]["workspace.upper"] == [0.66, 0.25, 0.3]
    assert figures["planner"]["steps_per_subgoal"] == 1 and figures["steps"] == [1]
    assert torch.get_num_threads() == 2


def test_every_task_is_registered_with_the_module_that_plays_it():
    for task in TASKS.values():
        module = task.load()
        assert callable(module.run_episodes) and callable(module.scene_seeds)
