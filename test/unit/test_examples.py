# SPDX-License-Identifier: Apache-2.0
"""The examples do what they say: each is loaded by its name, as a user would."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.planning.planners import make_planner
from vjepa2_ros.robot.controller import MotionController
from vjepa2_ros.robot.driver import RobotError
from vjepa2_ros.robot.safety import MotionCommand
from vjepa2_ros.settings.controller import MotionLimits
from vjepa2_ros.settings.files import resolve
from vjepa2_ros.settings.planning import CustomSearchSettings

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(autouse=True)
def examples_on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))


def test_every_example_is_listed_and_tested():
    listed = (EXAMPLES / "README.md").read_text()
    tests = [Path(__file__), Path(__file__).parents[1] / "ros" / "test_example_nodes.py"]
    tested = "".join(test.read_text() for test in tests)
    files = [file for file in EXAMPLES.iterdir() if file.suffix in (".py", ".yaml")]
    assert files
    for file in files:
        assert f"({file.name})" in listed
        assert file.stem in tested


@pytest.mark.parametrize("name", ["random_planner", "robot_driver"])
def test_the_parameter_file_of_an_example_is_accepted_and_names_it(name):
    settings = resolve([EXAMPLES / f"{name}.yaml"]).settings
    assert f"{name}:" in settings.planner.search.planner + settings.controller.robot


def test_the_planner_finds_a_low_energy_in_as_many_evaluations_as_it_was_given():
    search = resolve([EXAMPLES / "random_planner.yaml"]).settings.planner.search
    planner = make_planner(replace(search, custom=CustomSearchSettings(evaluations=500)))
    target = torch.tensor([0.05, -0.03, 0.02])
    asked = []

    def objective(actions):
        asked.append(len(actions))
        return (actions[:, 0, :3] - target).norm(dim=-1)

    space = ActionSpace(horizon=1)
    plan = planner.plan(objective, space, torch.Generator().manual_seed(0))
    assert sum(asked) <= 501
    assert plan.actions.shape == (1, 7)
    assert plan.energy < 0.02
    again = planner.plan(objective, space, torch.Generator().manual_seed(0))
    assert torch.equal(again.actions, plan.actions)


def test_the_robot_driver_brings_the_motion_controller_to_its_target():
    from robot_driver import StraightLineArm

    now = 100.0
    settings = resolve([EXAMPLES / "robot_driver.yaml"]).settings.controller
    arm = StraightLineArm(lambda: now, **json.loads(settings.robot_options))
    controller = MotionController(arm, MotionLimits(), planner_timeout=10.0)
    start = controller.tick(now, now).position
    target = start + [0.05, 0.0, -0.05]
    down = np.array([1.0, 0.0, 0.0, 0.0])
    command = MotionCommand("goal", 1, now, target, down, 0.5, frame="base")
    verdict = controller.command(command, now, now)
    assert verdict.accepted, verdict.text
    while controller.moving:
        now += 0.02
        state = controller.tick(now, now)
        assert now < 103.0, "the controller does not see the arm arrive"
    np.testing.assert_allclose(state.position, target, atol=1e-6)
    assert state.gripper_closedness == 0.5
    assert not controller.fault


def test_the_robot_driver_holds_where_it_is_stopped_and_refuses_a_bad_option():
    from robot_driver import StraightLineArm

    now = 0.0
    arm = StraightLineArm(lambda: now)
    start = arm.read_state()
    arm.move_to(start.position + [0.1, 0.0, 0.0], start.quaternion_xyzw, 0.0)
    now = 0.5
    arm.stop()
    now = 5.0
    np.testing.assert_allclose(arm.read_state().position, start.position + [0.05, 0.0, 0.0])
    with pytest.raises(RobotError, match="robot_options"):
        StraightLineArm(lambda: now, speed=-1.0)


def test_the_task_is_evaluated_in_closed_loop(tmp_path):
    from small_model import small_world_model

    from vjepa2_ros.cli import evaluate
    from vjepa2_ros.world_model.checkpoint import save_world_model

    save_world_model(small_world_model(), tmp_path / "model", card={})
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    words = ["--task", "home_task:TASK", "--episodes", "2", "--steps", "2", "--processes", "1"]
    words += ["--checkpoint", str(tmp_path / "model"), "--output", str(tmp_path / "home")]
    assert evaluate.run(parser.parse_args(words)) == 0
    figures = json.loads((tmp_path / "home" / "report.json").read_text())
    assert figures["task"] == "home_task:TASK" and figures["episodes"] == 2
    assert all(0.0 < distance < 1.0 for distance in figures["final_distance_m"])
    assert all(1 <= steps <= 2 for steps in figures["steps"])


def test_a_probe_of_own_actions_is_trained_and_named_by_classify(tmp_path, monkeypatch, capsys):
    import action_probe

    from vjepa2_ros.cli import classify

    actions = dict(list(action_probe.ACTIONS.items())[:1])
    monkeypatch.setattr(action_probe, "ACTIONS", actions)
    clips, probe = tmp_path / "clips", tmp_path / "actions.pt"
    action_probe.render(clips, 2)
    assert sorted(path.name for path in clips.iterdir()) == ["lift the box", "lift the cup"]
    # Too few of both to name others, but enough to know these again.
    action_probe.train(clips, "tabletop", probe, steps=30)
    parser = argparse.ArgumentParser()
    classify.add_arguments(parser)
    words = [str(clips / "lift the cup" / "1.mp4"), "--probe", str(probe), "--frames", "16"]
    words += ["--step", "2", "--labels", str(probe.with_suffix(".json"))]
    words += ["--output", str(tmp_path / "named.png")]
    capsys.readouterr()
    assert classify.run(parser.parse_args(words)) == 0
    best = capsys.readouterr().out.splitlines()[1]
    assert best.endswith("lift the cup")
    assert (tmp_path / "named.png").is_file()


def test_a_training_without_clips_says_what_it_needs(tmp_path, monkeypatch):
    import action_probe

    def fails(*words):
        monkeypatch.setattr("sys.argv", ["action_probe.py", "train", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            action_probe.main()
        return str(end.value)

    output = ["--output", tmp_path / "new" / "probe.pt"]
    clips = tmp_path / "clips"
    clips.mkdir()
    assert "two actions" in fails(clips, *output)
    (clips / "lift").mkdir()
    (clips / "lift" / "notes.txt").write_text("no clip")
    assert "lift needs two clips" in fails(clips, *output)
    assert "No such file" in fails(tmp_path / "absent", *output)
    assert "no checkpoint" in fails(clips, *output, "--checkpoint", "banana")
    assert fails(tmp_path, *output, "--steps", "0") == "2"
    assert "is a folder" in fails(clips, "--output", clips)
