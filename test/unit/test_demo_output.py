# SPDX-License-Identifier: Apache-2.0
"""What a demo says and writes, also when something was not measured, and what it refuses."""

import argparse
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from rich.console import Console
from small_model import small_world_model

from vjepa2_ros.cli import demo
from vjepa2_ros.demo import report
from vjepa2_ros.demo.imagination import MOST, imagined_steps
from vjepa2_ros.demo.progress import ProgressView
from vjepa2_ros.demo.recorded_run import Run
from vjepa2_ros.evaluation.record import Progress, Record
from vjepa2_ros.tasks import load_task
from vjepa2_ros.tasks.outcome import Cause, Outcome
from vjepa2_ros.tasks.task import Episode, SubGoal
from vjepa2_ros.tasks.truth import Trace, Truth
from vjepa2_ros.world_model.decoder import PatchDecoder

IMAGE = np.zeros((64, 64, 3), np.uint8)
TARGET = np.array([0.3, 0.0, 0.025])



def subgoal(name, x):
    return SubGoal(name, IMAGE, np.array([x, 0.0, 0.0]), 0.0, "hold", 5)


def truth(time, hand, box):
    objects = np.array([[0.5, 0.1, 0.045], [box, 0.0, 0.025]])
    hand = np.array([hand, 0.0, 0.0])
    return Truth(time, hand, 0.0, 0.0, objects, np.zeros(2), np.zeros(2, bool), time)


def status(time, step, subgoal, state="MOVING", **changes):
    figures = {"energy": 0.5, "predicted_energy": 0.4, "observation_age": 0.1}
    figures |= {"encode_seconds": 0.01, "plan_seconds": 0.2, "command_latency": 0.3}
    over = state == "STEP_LIMIT"
    return Progress(time, "goal-1", state, over, step, subgoal, message="", **figures | changes)


def record_of(*progress, truths=()):
    return Record(
        progress=list(progress),
        images=[(time, IMAGE) for time in (9.9, 10.5, 11.5, 12.5, 13.5)],
        positions=[(10.0, np.zeros(3)), (10.0, np.zeros(3))],
        truths=list(truths),
    )


def run_of(record, thing, outcome):
    subgoals = subgoal("above", 0.1), subgoal("placed", 0.2)
    episode = Episode(1, thing, None, subgoals, TARGET)
    return Run(record, "goal-1", "pick_and_place", episode, Trace(record.truths), outcome)


@pytest.fixture
def run_of_two_subgoals():
    """The hand reaches both pictures while the box is carried to its target."""
    truths = [truth(10.0, 0.0, 0.1), truth(11.0, 0.1, 0.1), truth(13.0, 0.15, 0.2)]
    progress = (
        status(10.1, 0, 0),
        status(10.2, 1, 0),
        status(10.8, 2, 0),
        status(12.0, 3, 1),
        status(13.0, 4, 1),
        status(13.5, 4, 1, "STEP_LIMIT"),
    )
    return run_of(record_of(*progress, truths=truths), "box", Outcome(True, 0.012))


@pytest.fixture
def run_without_a_command():
    """A run whose planner failed at its first step."""
    end = status(10.0, 1, 0, "FAILED", predicted_energy=float("nan"), command_latency=0.0)
    truths = [truth(10.0, 0.0, 0.1)]
    outcome = Outcome(False, 0.25, Cause.OUT_OF_TIME)
    return run_of(record_of(end, truths=truths), None, outcome)


def test_what_was_not_measured_is_null_in_json_and_a_dash_in_the_table(
    run_without_a_command, tmp_path
):
    report.write(run_without_a_command, tmp_path)
    for name in ("summary.json", "latency.json"):
        figures = json.loads((tmp_path / name).read_text(), parse_constant=pytest.fail)
        sent = figures["latency_ms"]["capture -> command sent"]
        assert sent == {"p50": None, "p99": None, "worst": None, "count": 0}
        # One step has no rate, and two states at one moment have none either.
        assert figures["rate_hz"]["steps"] is figures["rate_hz"]["robot states"] is None
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["success"] is False and summary["cause"] == "out of time"
    assert summary["object"] is None and summary["subgoals"] == [0]
    assert summary["energies"] == [0.5] and summary["predicted_energies"] == [None]
    table = (tmp_path / "latency.md").read_text()
    assert "| capture -> command sent | – | – | – | 0 |" in table and "| steps | – |" in table
    assert "| planner | 200.0 | 200.0 | 200.0 | 1 |" in table and "nan" not in table


def test_distances_are_to_the_sub_goal_of_the_moment_and_to_the_target(run_of_two_subgoals):
    run = run_of_two_subgoals
    np.testing.assert_array_equal(run.subgoals_at(np.array([9.0, 10.2, 11.9, 12.0, 99.0])),
                                  [0, 0, 0, 1, 1])  # fmt: skip
    np.testing.assert_allclose(run.subgoal_distances(), [0.1, 0.0, 0.05])
    np.testing.assert_allclose(run.target_distances(), [0.2, 0.2, 0.1])


def test_a_run_of_several_sub_goals_is_summed_up_and_drawn(run_of_two_subgoals, tmp_path):
    figures = report.write(run_of_two_subgoals, tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail)
    assert summary["task"] == "pick_and_place" and summary["object"] == "box"
    assert summary["success"] is True and summary["cause"] is None
    assert summary["pictures"] == ["above", "placed"] and summary["subgoals"] == [0, 0, 1, 1]
    assert summary["start_distance_m"] == pytest.approx(0.2)
    assert summary["final_distance_m"] == 0.012
    assert report.verdict(figures) == "success: box 1.2 cm from its target in 4 steps and 3 s"
    for name in ("energy.png", "motion.png", "animation.gif"):
        assert (tmp_path / name).is_file()


def test_images_that_somebody_else_published_are_not_in_the_animation(
    run_of_two_subgoals, tmp_path
):
    run_of_two_subgoals.record.images.insert(0, (9.95, np.zeros((100, 160, 3), np.uint8)))
    report.write(run_of_two_subgoals, tmp_path)
    assert (tmp_path / "animation.gif").is_file()


def test_a_failure_is_said_with_its_cause(run_without_a_command):
    said = report.verdict(report.summary(run_without_a_command))
    assert said == "NO success (out of time): hand 25.0 cm from its target in 1 step and 0 s"
    figures = report.summary(run_without_a_command) | {"message": "the plan was too late"}
    assert "NO success (out of time; the plan was too late): hand" in report.verdict(figures)


def test_the_progress_names_each_sub_goal_once_and_the_distance_to_it(run_of_two_subgoals):
    run = run_of_two_subgoals
    console = Console(record=True, width=100, file=open(os.devnull, "w"))
    with ProgressView(console, run.episode) as view:
        view.update(run.record, "goal-1")
        view.update(run.record, "goal-1")
    lines = console.export_text().splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["above", "1", "2", "placed", "3", "4"]
    assert lines[0] == "above (1 of 2)" and lines[3] == "placed (2 of 2)"
    assert "10.0 cm" in lines[1] and "5.0 cm" in lines[5]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--task", "juggle"], "unknown task 'juggle': use grasp, pick_and_place, "),
        (["--task", "nowhere:TASK"], "task 'nowhere:TASK' cannot be used"),
        (["--object", "spoon"], "one of cup, box, not 'spoon'"),
        (["--task", "reach", "--object", "box"], "the task has no object, so 'box'"),
        (["--overlap"], "use a task without one, such as --task reach"),
    ],
    ids=str,
)
def test_a_task_that_cannot_be_done_is_one_line_and_leaves_no_folder(
    words, said, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("ROS_DOMAIN_ID", "1")
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    assert demo.run(parser.parse_args(["--output", str(tmp_path / "demo"), *words])) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line and not (tmp_path / "demo").exists()


def test_the_default_object_is_the_box_where_the_task_has_objects():
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    assert parser.parse_args([]).task == "pick_and_place"
    assert demo.default_object(load_task("pick_and_place")) == "box"
    assert demo.default_object(load_task("reach")) is None


def test_a_folder_that_exists_is_not_touched(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    assert demo.run(parser.parse_args(["--output", str(tmp_path)])) == 1
    assert capsys.readouterr().err == f"{tmp_path} exists already: give another --output\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["file/demo", "/proc/demo"])
def test_a_folder_that_cannot_be_written_is_one_line_before_anything_starts(
    place, tmp_path, capsys
):
    (tmp_path / "file").write_text("")
    folder = tmp_path / place
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    assert demo.run(parser.parse_args(["--output", str(folder)])) == 1
    errors = capsys.readouterr().err
    assert errors.startswith(f"cannot write to {folder}: ") and errors.count("\n") == 1


def test_a_configuration_that_is_refused_leaves_no_folder(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    absent = str(tmp_path / "absent.yaml")
    arguments = ["--output", str(tmp_path / "demo"), "--config", absent]
    assert demo.run(parser.parse_args(arguments)) == 2
    assert absent in capsys.readouterr().err and not (tmp_path / "demo").exists()


@pytest.mark.parametrize("domain", ["nonsense", "-1", "233"])
def test_a_domain_that_is_none_is_one_line_before_anything_starts(
    domain, tmp_path, capsys, monkeypatch
):
    """It was once found after seconds, with a traceback."""
    monkeypatch.setenv("ROS_DOMAIN_ID", domain)
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    assert demo.run(parser.parse_args(["--output", str(tmp_path / "demo")])) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ROS_DOMAIN_ID is '{domain}'") and not (tmp_path / "demo").exists()


@pytest.mark.parametrize("words", [["demo", "--output", "demo"], ["up", "--show"]])
def test_an_output_that_is_full_is_one_line_and_leaves_no_folder(words, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "ROS_DOMAIN_ID": "1"}
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "vjepa2_ros.cli.main", *words],
            cwd=tmp_path,
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 1 and line.startswith("cannot read or write: ")
    assert list(tmp_path.iterdir()) == []


def test_what_was_imagined_before_each_command_is_drawn_beside_what_followed(tmp_path):
    model = small_world_model(commanded_gripper=True)
    model.parts["decoder"] = PatchDecoder({"channels": 48, "image_size": 64, "patch_size": 16})
    progress = status(10.2, 1, 0), status(11.0, 2, 1), status(13.5, 2, 1, "STEP_LIMIT")
    run = run_of(record_of(*progress, truths=[truth(10.0, 0.0, 0.1)]), "box", Outcome(True, 0.01))
    noise = np.random.default_rng(0)
    run.record.images[:] = [
        (time, noise.integers(0, 256, (64, 64, 3), np.uint8)) for time in (10.5, 11.5, 13.0)
    ]
    state = np.array([0.4, 0.0, 0.3, np.pi, 0.0, 0.0, 0.3])
    run.record.states += [(10.5, state, 1.0), (11.5, state, math.nan)]
    far = state + [0.05, 0.0, 0.0, 0.0, 0.0, 0.0, 0.7]
    # Of an image that was not recorded, of one that was, of a state that is not known.
    run.record.targets += [(10.4, far), (10.5, far), (11.5, far)]
    (step,) = imagined_steps(run, model)
    assert step.number == 1
    camera, imagined, true, goal = step.images
    assert camera is run.record.images[0][1] and true is run.record.images[1][1]
    assert goal is run.episode.subgoals[0].image
    now = torch.tensor([0.4, 0.0, 0.3, np.pi, 0.0, 0.0, 1.0])
    action = torch.tensor([0.05, 0, 0, 0, 0, 0, 0])
    latent = model.encode(camera)
    expected = model.rollout(latent, now, action[None, None])[0]
    np.testing.assert_array_equal(imagined, model.parts["decoder"].picture(expected))
    assert step.copied == pytest.approx(float((latent - model.encode(true)).abs().mean()))
    report.write(run, tmp_path, model)
    assert (tmp_path / "imagined.png").is_file()


def test_a_run_without_commands_has_no_picture_of_what_was_imagined(
    run_without_a_command, tmp_path
):
    model = small_world_model()
    model.parts["decoder"] = PatchDecoder({"channels": 48, "image_size": 64, "patch_size": 16})
    report.write(run_without_a_command, tmp_path, model)
    assert not (tmp_path / "imagined.png").exists()


def test_of_a_long_run_evenly_chosen_commands_are_imagined_again(run_of_two_subgoals):
    model = small_world_model()
    model.parts["decoder"] = PatchDecoder({"channels": 48, "image_size": 64, "patch_size": 16})
    record = run_of_two_subgoals.record
    times = [10.2 + 0.1 * number for number in range(25)]
    state = np.array([0.4, 0.0, 0.3, np.pi, 0.0, 0.0, 0.3])
    record.images[:] = [(time, IMAGE) for time in (*times, 13.0)]
    record.states += [(time, state, 0.0) for time in times]
    record.targets += [(time, state) for time in times]
    numbers = [step.number for step in imagined_steps(run_of_two_subgoals, model)]
    assert len(numbers) == MOST and numbers[0] == 1 and numbers[-1] == 25
