# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros evaluate`: whose settings it takes, and what it refuses."""

import argparse
import json

import pytest
import torch
from small_model import small_world_model

from vjepa2_ros.cli import evaluate
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
    ("text", "said"),
    [
        ("planner_node:\n  ros__parameters:\n    sampels: 3\n", "sampels"),
        ("planner_node: [", "not a parameter file"),
        (
            "planner_node:\n  ros__parameters:\n    planner: cem\n    samples: many\n",
            "cannot evaluate",
        ),
        ("planner_node:\n  ros__parameters:\n    planner: best\n", "unknown planner 'best'"),
        ("planner_node:\n  ros__parameters:\n    evaluations: 2\n", "evaluations must be"),
        ("planner_node:\n  ros__parameters:\n    cost: l3\n", "cost"),
        ("planner_node:\n  ros__parameters:\n    threads: 0\n", "threads must be"),
        ("planner_node:\n  ros__parameters:\n    dtype: float8\n", "unknown dtype 'float8'"),
        ("planner_node:\n  ros__parameters:\n    attention: flashy\n", "unknown attention"),
        ("planner_node:\n  ros__parameters:\n    device: abacus\n", "unknown device"),
    ],
)
def test_a_bad_planner_file_is_refused_with_the_reason(tmp_path, capsys, model, text, said):
    (tmp_path / "planner.yaml").write_text(text)
    options = ("--episodes", 1, "--steps", 1, "--output", tmp_path / "out")
    assert run("--checkpoint", model, "--planner", tmp_path / "planner.yaml", *options) == 2
    assert said in capsys.readouterr().out


def test_a_missing_checkpoint_is_refused_with_what_to_give(tmp_path, capsys):
    assert run("--checkpoint", tmp_path / "nothing") == 2
    assert "no checkpoint" in capsys.readouterr().out


def test_more_episodes_than_a_seed_has_scenes_are_refused(capsys):
    assert run("--episodes", 10_001) == 2
    assert "10001 episodes" in capsys.readouterr().out


def test_a_planner_file_changes_only_what_it_names_also_the_model(tmp_path, model):
    given = {"evaluations": 16, "checkpoint": str(model)}
    report = tmp_path / "report.json"
    options = ("--episodes", 1, "--steps", 1, "--output", tmp_path / "out", "--json", report)
    assert run("--planner", planner_file(tmp_path, **given, threads=2), *options) == 0
    figures = json.loads(report.read_text())
    assert figures["checkpoint"] == str(model) and figures["planner"]["evaluations"] == 16
    assert figures["planner"]["max_translation"] == 0.075
    assert torch.get_num_threads() == 2


def test_model_and_threads_are_those_of_the_planner_file_unless_others_are_given(tmp_path):
    def chosen(*words):
        values = evaluate.planner_values(parse(*words))
        return values["checkpoint"], values["threads"], values["attention"]

    assert chosen() == ("reach", 1, "sdpa")
    path = planner_file(tmp_path, checkpoint="mine", threads=3, attention="eager")
    assert chosen("--planner", path) == ("mine", 3, "eager")
    options = ("--checkpoint", "other", "--threads", 2)
    assert chosen("--planner", path, *options) == ("other", 2, "eager")


def test_the_model_is_loaded_with_the_settings_of_the_planner_file(model):
    values = {"checkpoint": str(model), "device": "cpu", "threads": 1}
    loaded = evaluate.load_model(values | {"dtype": "bfloat16", "attention": "eager"})
    assert loaded.encoder.config._attn_implementation == "eager"
    assert loaded.compute_dtype == torch.bfloat16
