# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros evaluate` and what it refuses."""

import argparse

import pytest
from small_model import small_world_model

from vjepa2_ros.cli import evaluate
from vjepa2_ros.world_model.checkpoint import save_world_model


def run(*words):
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    return evaluate.run(parser.parse_args([str(word) for word in words]))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("planner_node:\n  ros__parameters:\n    sampels: 3\n", "sampels"),
        ("planner_node: [", "not a parameter file"),
        ("planner_node:\n  ros__parameters:\n    samples: many\n", "cannot evaluate"),
        ("planner_node:\n  ros__parameters:\n    cost: l3\n", "cost"),
    ],
)
def test_a_bad_planner_file_is_refused_with_the_reason(tmp_path, capsys, text, said):
    save_world_model(small_world_model(), tmp_path / "model", {})
    (tmp_path / "planner.yaml").write_text(text)
    assert (
        run(
            "--checkpoint",
            tmp_path / "model",
            "--planner",
            tmp_path / "planner.yaml",
            "--episodes",
            1,
            "--steps",
            1,
            "--output",
            tmp_path / "out",
        )
        == 2
    )
    assert said in capsys.readouterr().out


def test_a_missing_checkpoint_is_refused_with_what_to_give(tmp_path, capsys):
    assert run("--checkpoint", tmp_path / "nothing") == 2
    assert "no checkpoint" in capsys.readouterr().out


def test_a_planner_file_changes_only_what_it_names(tmp_path):
    save_world_model(small_world_model(), tmp_path / "model", {})
    (tmp_path / "planner.yaml").write_text(
        "planner_node:\n  ros__parameters: {samples: 8, iterations: 1, top_k: 2}\n"
    )
    report = tmp_path / "report.json"
    assert (
        run(
            "--checkpoint",
            tmp_path / "model",
            "--planner",
            tmp_path / "planner.yaml",
            "--episodes",
            1,
            "--steps",
            1,
            "--output",
            tmp_path / "out",
            "--json",
            report,
        )
        == 0
    )
    assert '"evaluations": 8' in report.read_text()
