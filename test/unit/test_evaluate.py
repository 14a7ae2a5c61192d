# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros evaluate`: whose settings it takes, and what it refuses."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from small_model import small_world_model

from vjepa2_ros import plain_json
from vjepa2_ros.cli import diagnose, evaluate
from vjepa2_ros.evaluation import summary, writable
from vjepa2_ros.evaluation.table import markdown
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
    printed = capsys.readouterr().err
    assert "cannot evaluate" in printed and said in printed


def test_a_missing_checkpoint_is_refused_with_what_to_give(tmp_path, capsys):
    assert run("--checkpoint", tmp_path / "nothing") == 2
    assert "no checkpoint" in capsys.readouterr().err


def test_more_episodes_than_a_seed_has_scenes_are_refused(capsys):
    assert run("--episodes", 10_001) == 2
    assert "10001 episodes" in capsys.readouterr().err


def test_a_file_changes_only_what_it_names_for_all_nodes_alike(tmp_path, model):
    path = tmp_path / "mine.yaml"
    sections = {
        "/**": {"checkpoint": str(model), "workspace.upper": [0.66, 0.25, 0.3]},
        "planner_node": {"latent_quadratic.evaluations": 16, "threads": 2},
    }
    path.write_text(json.dumps({k: {"ros__parameters": v} for k, v in sections.items()}))
    report = tmp_path / "report.json"
    options = ("--task", "reach", "--episodes", 1, "--steps", 1, "--processes", 1)
    options += ("--output", tmp_path / "out", "--json", report)
    assert run("--config", path, *options) == 0
    figures = json.loads(report.read_text())
    assert figures["checkpoint"] == str(model) and figures["planner"]["evaluations"] == 16
    assert figures["planner"]["max_translation"] == 0.075
    assert figures["planner"]["workspace.upper"] == [0.66, 0.25, 0.3]
    assert figures["controller"]["workspace.upper"] == [0.66, 0.25, 0.3]
    assert figures["most_steps"] == 1 and figures["steps"] == [1]


# Where nothing can be written ------------------------------------------------------------------


@pytest.fixture
def no_episode(monkeypatch):
    """What is refused must not play anything."""
    monkeypatch.setattr(
        "vjepa2_ros.evaluation.run.run", lambda *_: pytest.fail("an episode was played")
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
    words = ["evaluate", "--task", "reach", "--checkpoint", model, "--episodes", "1"]
    words += ["--steps", "1", "--processes", "1"]
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
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"table.md", "report.json", "reach_energies.png", "reach_failures.png"}
    assert (tmp_path / "report.json").is_file()


def test_a_model_whose_latents_are_not_finite_is_one_line_and_1(tmp_path, capsys):
    broken = small_world_model()
    with torch.no_grad():
        for weight in broken.encoder.parameters():
            weight *= 1e30
    save_world_model(broken, tmp_path / "broken", {})
    words = ("--checkpoint", tmp_path / "broken", "--episodes", 1, "--output", tmp_path / "out")
    assert run("--task", "reach", "--processes", 1, *words) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("cannot evaluate: a goal latent")


@pytest.mark.parametrize("command", [evaluate, diagnose])
def test_plans_that_cannot_be_made_are_no_failure_of_the_task(tmp_path, capsys, command):
    broken = small_world_model()
    with torch.no_grad():
        for weight in broken.predictor.parameters():
            weight *= 1e30
    save_world_model(broken, tmp_path / "broken", {})
    words = ["--checkpoint", tmp_path / "broken", "--episodes", 1, "--output", tmp_path / "out"]
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    words += ["--processes", 1] if command is evaluate else []
    assert command.run(parser.parse_args(["--task", "reach", *map(str, words)])) == 1
    assert "planning failed: " in capsys.readouterr().err.splitlines()[-1]


# Tasks, objects, policies -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--task", "dance"), "unknown task 'dance'"),
        (("--task", "grasp", "--object", "spoon"), "one of cup, box, not 'spoon'"),
        (("--task", "reach", "--object", "cup"), "has no object"),
        (("--all", "--task", "reach"), "leave out --task"),
        (("--shard", "1/3", "--episodes", 2), "cannot be played in 3 shards"),
        (("--box-yaw", 200), "0 to 180 degrees"),
        (("--policy", "linear", "--baselines", "absent.safetensors"), "vjepa2-ros baselines"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    tmp_path, capsys, model, no_episode, words, said
):
    assert run("--checkpoint", model, "--output", tmp_path / "out", *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cannot evaluate: ") and said in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--policy", "best"),
        ("--pictures", 4),
        ("--gripper", "open"),
        ("--shard", "3/2"),
        ("--shard", "0/2"),
        ("--shard", "half"),
        ("--episodes", 0),
        ("--processes", 0),
        ("--box-yaw", "nan"),
    ],
)
def test_nonsense_is_refused_by_the_command_line(words, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(*words)
    assert ended.value.code == 2 and words[0] in capsys.readouterr().err


def played(tmp_path, model, name, *words):
    report = tmp_path / f"{name}.json"
    common = ("--checkpoint", model, "--episodes", 2, "--steps", 1, "--policy", "random")
    common += ("--processes", 1)
    assert run(*common, "--output", tmp_path / name, "--json", report, *words) == 0
    return report


def test_merged_shards_give_the_table_of_the_single_run_byte_for_byte(tmp_path, model, capsys):
    task = ("--task", "pick_and_place", "--object", "cup")
    whole = played(tmp_path, model, "whole", *task)
    parts = [played(tmp_path, model, f"part{n}", *task, "--shard", f"{n}/2") for n in (1, 2)]
    # In any order.
    words = ("--merge", *reversed(parts), "--output", tmp_path / "merged")
    assert run(*words) == 0
    table = (tmp_path / "merged" / "table.md").read_bytes()
    assert table == (tmp_path / "whole" / "table.md").read_bytes()
    merged = json.loads((tmp_path / "merged" / "report.json").read_text())
    single = json.loads(whole.read_text())
    for cell in (merged, single):
        assert cell.pop("seconds_per_step") > 0
        for row in cell["rows"]:
            del row["plan_seconds"], row["step_seconds"]
    assert merged == single
    assert set(single) >= {
        "task", "object", "episodes", "seed", "success_rate", "interval", "successes", "causes",
        "final_distance_m", "steps", "evaluations_per_step", "checkpoint", "planner", "policy",
        "pictures", "gripper",
    }  # fmt: skip


def shard_report(folder, part, parts, **changes):
    row = {
        "scene": part - 1, "success": part == 1, "cause": None if part == 1 else "dropped",
        "distance_m": 0.01 * part, "steps": 3, "evaluations": [32] * 3, "clamped": [],
        "refused": [], "step_seconds": [0.1] * 3,
    }  # fmt: skip
    conditions = dict.fromkeys(summary.CONDITIONS, "x") | {
        "task": "grasp", "object": "cup", "seed": 0, "episodes": 2,
    }  # fmt: skip
    cell = summary.summary(conditions | changes, [row])
    path = folder / f"shard{part}of{parts}{len(changes)}.json"
    path.write_text(plain_json.dumps(summary.report([cell], (part, parts))))
    return path


def test_shards_that_do_not_fit_are_refused_with_what_is_wrong(tmp_path, capsys):
    first, second = (shard_report(tmp_path, part, 2) for part in (1, 2))
    third = shard_report(tmp_path, 1, 3)
    other = shard_report(tmp_path, 2, 2, seed=9)
    foreign = tmp_path / "foreign.json"
    foreign.write_text("[1, 2]")
    for files, said in (
        ((first,), "shard 2/2 is missing"),
        ((first, first, second), "shard 1/2 was given twice"),
        ((first, third), "shards of [2, 3]"),
        ((first, other), "other settings"),
        ((foreign, first), "is not the report of a shard"),
    ):
        assert run("--merge", *files, "--output", tmp_path / "out") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    assert run("--merge", tmp_path / "absent.json", "--output", tmp_path / "none") == 2
    assert not (tmp_path / "none").exists(), "nothing is left of what failed"
    assert run("--merge", second, first, "--output", tmp_path / "out") == 0
    merged = json.loads((tmp_path / "out" / "report.json").read_text())
    assert merged["successes"] == [True, False] and merged["causes"] == {"dropped": 1}
    assert "shard" not in merged


def edited(path, change):
    report = json.loads(path.read_text())
    change(report)
    other = path.with_name(f"edited-{path.name}")
    other.write_text(json.dumps(report))
    return other


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r["rows"].clear(), "is not the report of a shard"),
        (lambda r: r["rows"][0].update(scene=0), "that are not the 2 of seed 0"),
        (lambda r: r["rows"].append({**r["rows"][0], "scene": 5}), "that are not the 2 of seed 0"),
        (lambda r: r["rows"][0].update(cause=None), "is not the report of a shard"),
        (lambda r: r["rows"][0].update(distance_m=float("nan")), "is not the report of a shard"),
        (lambda r: r["rows"][0].update(steps="9"), "is not the report of a shard"),
        (lambda r: r.update(shard=[2, 10**12]), "is not the report of a shard"),
        (lambda r: r.update(shard=[2, 2.0]), "is not the report of a shard"),
        (lambda r: r.update(task=["a"]), "is not the report of a shard"),
        (lambda r: r.update(cells=[]), "other settings"),
        (lambda r: r.update(fingerprint="other"), "other settings"),
        (lambda r: r.update(baselines="other"), "other settings"),
    ],
)
def test_a_shard_that_was_changed_is_refused(tmp_path, capsys, change, said):
    first, second = (shard_report(tmp_path, part, 2) for part in (1, 2))
    words = ("--merge", first, edited(second, change), "--output", tmp_path / "out")
    assert run(*words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_what_is_no_file_is_refused_without_being_read(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    assert run("--merge", tmp_path / "pipe", "--output", tmp_path / "out") == 2
    assert "it is no file" in capsys.readouterr().err
    (tmp_path / "deep.json").write_text("[" * 200_000)
    assert run("--merge", tmp_path / "deep.json", "--output", tmp_path / "out") == 2
    assert "is not the report of a shard" in capsys.readouterr().err


def test_a_merge_with_options_of_a_run_is_refused(tmp_path, capsys):
    part = shard_report(tmp_path, 1, 2)
    for words in (("--task", "reach"), ("--all",), ("--shard", "1/2")):
        assert run("--merge", part, *words) == 2
        assert "--merge plays nothing" in capsys.readouterr().err


def test_results_outlive_figures_that_cannot_be_drawn(tmp_path, model, monkeypatch, capsys):
    def fails(*_):
        raise OSError(28, "No space left on device", "figure.png")

    monkeypatch.setattr("vjepa2_ros.evaluation.figures.draw_energies", fails)
    words = ("--checkpoint", model, "--task", "reach", "--episodes", 1, "--steps", 1)
    words += ("--policy", "random", "--processes", 1, "--output", tmp_path / "out")
    assert run(*words, "--json", tmp_path / "report.json") == 1
    assert "No space left on device: figure.png" in capsys.readouterr().err
    for path in (tmp_path / "report.json", tmp_path / "out" / "report.json"):
        assert json.loads(path.read_text())["played"] == 1
    assert (tmp_path / "out" / "table.md").exists()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise RuntimeError('no arm')", "failed in draw: RuntimeError('no arm')"),
        ("raise SystemExit(0)", "failed in draw: SystemExit(0)"),
        ("return None", "failed in draw"),
    ],
)
def test_an_error_of_a_task_of_ones_own_is_named(tmp_path, model, monkeypatch, capsys, body, said):
    (tmp_path / "broken_task.py").write_text(
        "class Broken:\n"
        "    description, objects = 'nothing', ()\n"
        f"    def draw(self, simulator, random, options):\n        {body}\n"
        "    def outcome(self, episode, trace, refused):\n        return None\n"
        "TASK = Broken()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ("--checkpoint", model, "--task", "broken_task:TASK", "--episodes", 1)
    assert run(*words, "--processes", 1, "--output", tmp_path / "out") == 1
    assert said in capsys.readouterr().err
    del sys.modules["broken_task"]


def test_no_worker_outlives_an_evaluation_that_was_killed(tmp_path, model):
    words = [sys.executable, "-m", "vjepa2_ros.cli.main", "evaluate", "--task", "reach"]
    words += ["--policy", "random", "--episodes", "500", "--processes", "2"]
    words += ["--checkpoint", str(model), "--output", str(tmp_path / "out")]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, start_new_session=True)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    try:
        for output in iter(lambda: process.stderr.read1(4096), b""):
            if b"succeeded" in output:  # an episode was played
                break
        started = children.read_text().split()
        assert len(started) >= 3  # a resource tracker and two workers
        process.kill()
        process.wait()
        deadline = time.monotonic() + 20.0
        while any(Path(f"/proc/{pid}").exists() for pid in started):
            assert time.monotonic() < deadline, "a worker goes on"
            time.sleep(0.05)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stderr.close()


def test_intervals_are_wilsons():
    low, high = summary.interval(148, 150)
    assert (round(low, 4), round(high, 4)) == (0.9527, 0.9963)
    assert summary.interval(0, 10)[0] == 0.0 and summary.interval(10, 10)[1] == 1.0


def test_the_table_names_success_interval_paper_and_causes(tmp_path):
    path = shard_report(tmp_path, 2, 2)
    line = markdown(summary.cells_of(json.loads(path.read_text()))).splitlines()[-1]
    assert line.startswith("| grasp | cup |") and line.endswith("| dropped 1 |")
    assert "| 0 of 1 | 0–79 % | 65 % | 2.00 |" in line
