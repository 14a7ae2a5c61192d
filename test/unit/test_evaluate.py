# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros evaluate`: whose settings it takes, and what it refuses."""

import argparse
import json
import os
import subprocess
import sys

import pytest
import torch
from small_model import small_world_model

from vjepa2_ros.cli import evaluate
from vjepa2_ros.evaluation import writable
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


# Where nothing can be written ------------------------------------------------------------------


@pytest.fixture
def no_episode(monkeypatch):
    """What is refused must not play anything."""
    monkeypatch.setattr(
        "vjepa2_ros.evaluation.reach.run_episodes", lambda *_: pytest.fail("an episode was played")
    )


@pytest.mark.parametrize(
    "words",
    [
        ("--output", "{0}/file"),
        ("--output", "/proc/x"),
        ("--json", "/dev/full"),
        ("--json", "{0}"),
        ("--json", "{0}/absent/folder/report.json"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_episodes(
    tmp_path, capsys, model, no_episode, words
):
    (tmp_path / "file").write_text("kept")
    words = [word.format(tmp_path) for word in words]
    assert run("--checkpoint", model, "--output", tmp_path / "out", *words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cannot evaluate: ")
    assert not (tmp_path / "absent").exists() and (tmp_path / "file").read_text() == "kept"


def test_a_check_changes_no_file_and_leaves_none_behind(tmp_path):
    (tmp_path / "report.json").write_text("kept")
    for name in ("report.json", "absent.json", "folder/absent.json"):
        writable.check_file(tmp_path / name)
    assert (tmp_path / "report.json").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "report.json"]


def test_the_report_is_written_although_the_output_is_full(tmp_path, model):
    words = ["evaluate", "--checkpoint", model, "--episodes", "1", "--steps", "1"]
    words += ["--output", tmp_path / "out", "--json", tmp_path / "report.json"]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "vjepa2_ros.cli.main", *words],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("cannot read or write: ")
    assert (tmp_path / "out" / "curves.png").is_file() and (tmp_path / "report.json").is_file()


def test_a_model_whose_latents_are_not_finite_is_one_line_and_1(tmp_path, capsys):
    broken = small_world_model()
    with torch.no_grad():
        for weight in broken.encoder.parameters():
            weight *= 1e30
    save_world_model(broken, tmp_path / "broken", {})
    words = ("--checkpoint", tmp_path / "broken", "--episodes", 1, "--output", tmp_path / "out")
    assert run(*words) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("cannot evaluate: a goal latent")


def test_every_task_is_registered_with_the_module_that_plays_it():
    for task in TASKS.values():
        module = task.load()
        assert callable(module.run_episodes) and callable(module.scene_seeds)
