# SPDX-License-Identifier: Apache-2.0
"""Recorded runs planned once more: the same plans by the same model, and gates for another one."""

import json
import math
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import yaml
from bag_writing import command, goal, image, robot_state, write_bag
from scipy.spatial.transform import Rotation
from small_model import small_world_model

from vjepa2_ros.cli.main import main
from vjepa2_ros.recording.reading import BagError, read_bag
from vjepa2_ros.recording.shortening import shorten
from vjepa2_ros.replay.gates import Gates, judge, read_gates
from vjepa2_ros.replay.replay import Replay, ReplayedStep, replay
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.settings.declaration import SettingsError
from vjepa2_ros.settings.files import resolve
from vjepa2_ros.share import model_path
from vjepa2_ros.world_model.checkpoint import load_world_model

ROOT = Path(__file__).parents[2]
BAGS = sorted(path for path in (ROOT / "test" / "bags").iterdir() if path.is_dir())
BAG = ROOT / "test" / "bags" / "pick_and_place"
DOWN = (1.0, 0.0, 0.0, 0.0)
CLOSE = Gates(max_angle=0.2, max_distance=0.005, max_gripper=0.05, min_energy_fall=0.2)


@pytest.fixture(scope="module")
def settings():
    return resolve().settings


@pytest.fixture(scope="module")
def shipped():
    torch.set_num_threads(1)
    return load_world_model(model_path("tabletop"))


@pytest.fixture(scope="module")
def as_recorded(shipped, settings):
    return replay(read_bag(BAG), shipped, settings)


# Checked-in bags ----------------------------------------------------------------------------


@pytest.mark.parametrize("bag", BAGS, ids=lambda bag: bag.name)
def test_the_shipped_model_keeps_to_the_gates_of_every_bag(bag, shipped, settings):
    done = replay(read_bag(bag), shipped, settings)
    checks = judge(done, CLOSE)
    assert all(check.passed for check in checks), [c for c in checks if not c.passed]
    assert not done.left_out


def test_a_second_replay_has_the_same_hash_and_another_seed_does_not(as_recorded, shipped):
    recording = read_bag(BAG)
    again = replay(recording, shipped, resolve().settings)
    assert again.digest == as_recorded.digest
    other = resolve(options={"planner_node": {"seed": 7}}).settings
    assert replay(recording, shipped, other).digest != as_recorded.digest


def test_a_spoiled_checkpoint_fails_the_gates(settings, shipped):
    spoiled = load_world_model(model_path("tabletop"))
    with torch.no_grad():
        # Actions are taken for their opposites.
        for name, weight in spoiled.predictor.named_parameters():
            if "action" in name and name.endswith("weight"):
                weight.neg_()
    checks = judge(replay(read_bag(BAG), spoiled, settings), CLOSE)
    failed = {check.name for check in checks if not check.passed}
    assert {"max_angle", "max_distance"} <= failed


def test_another_model_of_another_size_is_replayed_and_judged(settings):
    done = replay(read_bag(BAG), small_world_model(), settings)
    assert done.steps
    assert not all(check.passed for check in judge(done, CLOSE))


# The command --------------------------------------------------------------------------------


def run(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["vjepa2-ros", "replay", *map(str, words)])
    return main()


def test_the_command_prints_hash_and_verdict_and_writes_reports(
    monkeypatch, capsys, tmp_path, as_recorded
):
    (tmp_path / "gates.yaml").write_text("max_distance: 0.005\nmin_steps: 3\n")
    words = ("--gates", tmp_path / "gates.yaml", "--steps", "--json", tmp_path / "r.json")
    assert run(monkeypatch, BAG, *words, "--junit", tmp_path / "r.xml") == 0
    out = capsys.readouterr().out
    assert f"hash: {as_recorded.digest}" in out and "passed" in out
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["passed"] and report["hash"] == as_recorded.digest
    assert len(report["steps"]) == len(as_recorded.steps)
    suite = ElementTree.parse(tmp_path / "r.xml").getroot()[0]
    assert suite.attrib["failures"] == "0"
    assert {case.attrib["name"] for case in suite} >= {"min_steps", "max_distance"}


def test_a_gate_that_fails_ends_with_one_and_is_in_the_junit_file(monkeypatch, capsys, tmp_path):
    (tmp_path / "gates.yaml").write_text("min_steps: 1000\n")
    words = ("--gates", tmp_path / "gates.yaml", "--junit", tmp_path / "r.xml")
    assert run(monkeypatch, BAG, *words) == 1
    assert "FAILED" in capsys.readouterr().out
    suite = ElementTree.parse(tmp_path / "r.xml").getroot()[0]
    assert suite.attrib["failures"] == "1"
    assert "wanted ≥ 1000" in suite.find("testcase[@name='min_steps']/failure").attrib["message"]


@pytest.mark.parametrize(
    "words, text",
    [
        (["/no/such/bag"], "there is no bag /no/such/bag"),
        ([BAG, "--gates", "/no/such.yaml"], "/no/such.yaml"),
        ([BAG, "--checkpoint", "nobody"], "nobody"),
        ([BAG, "--preset", "peper"], "unknown preset"),
    ],
)
def test_what_cannot_be_used_is_named(monkeypatch, capsys, words, text):
    assert run(monkeypatch, *words) in (1, 2)
    assert text in capsys.readouterr().err


# Reading ------------------------------------------------------------------------------------


def rgb(seed, size=64):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def run_of(namespace="/vjepa2", steps=3, joints=(), goals=True, images=True):
    """Messages of a run that goes 2 cm along x in each step."""
    entries = []
    if goals:
        entries.append(("goal", 1.0, goal("goal-1", [rgb(9)], [steps], ["hold"])))
    for number in range(steps):
        stamp, place = 10.0 + number, (0.45 + 0.02 * number, 0.0, 0.2)
        if images:
            entries.append(("camera/image_raw", stamp + 0.01, image(stamp, rgb(number))))
        entries.append(
            ("robot_state", stamp + 0.02, robot_state(stamp, place, DOWN, 0.0, joints))
        )
        target = (place[0] + 0.02, 0.0, 0.2)
        entries.append(
            ("command", stamp + 0.2, command("goal-1", number + 1, stamp, target, DOWN, 0.0))
        )
    return [(f"{namespace}/{topic}", *rest) for topic, *rest in entries]


def test_a_bag_is_read_with_what_the_recorder_wrote_beside_it(tmp_path):
    recording = read_bag(write_bag(tmp_path / "bag", run_of("/cell/arm"), version="1.2"))
    assert recording.namespace == "/cell/arm" and recording.frame == "base"
    assert recording.metadata == {"version": "1.2"}
    assert [len(recording.commands_of(one)) for one in recording.goals] == [3]
    assert sorted(recording.images) == [10.0, 11.0, 12.0]
    np.testing.assert_array_equal(recording.images[11.0], rgb(1))
    assert recording.state_at(11.04, 0.1).position[0] == pytest.approx(0.47)
    assert recording.state_at(11.4, 0.1) is None


def test_every_recorded_motion_is_compared_with_its_plan(tmp_path, settings):
    recording = read_bag(write_bag(tmp_path / "bag", run_of()))
    done = replay(recording, small_world_model(), settings)
    assert [step.number for step in done.steps] == [1, 2, 3]
    for step in done.steps:
        np.testing.assert_allclose(step.recorded, [0.02, 0.0, 0.0], atol=1e-9)
        assert step.verdict in (Reason.ACCEPTED, Reason.CLAMPED)
    assert math.isnan(done.steps[0].surprise) and done.steps[1].surprise > 0


def test_the_gate_judges_each_plan_by_itself(tmp_path):
    settings = resolve().settings
    # In this bag the robot was last measured 0.9 s before each command.
    late = [
        (topic, received + 0.7 * topic.endswith("command"), content)
        for topic, received, content in run_of()
    ]
    recording = read_bag(write_bag(tmp_path / "bag", late))
    done = replay(recording, small_world_model(), settings)
    assert {step.verdict for step in done.steps} <= {Reason.NO_ROBOT_STATE, Reason.STATE_STALE}
    (check,) = [c for c in judge(done, Gates()) if c.name == "max_refused"]
    assert not check.passed and check.value == 1.0


def test_a_command_without_a_state_at_its_image_is_left_out(tmp_path, settings):
    entries = [e for e in run_of() if not (e[0].endswith("state") and e[1] > 11.5)]
    done = replay(read_bag(write_bag(tmp_path / "bag", entries)), small_world_model(), settings)
    assert len(done.steps) == 2
    assert done.left_out == {"no state at the time of the image": 1}


@pytest.mark.parametrize(
    "entries, text",
    [
        (run_of(goals=False), "holds no goal"),
        (run_of(images=False), "no command of a goal with the image"),
        ([*run_of("/a"), *run_of("/b")], "commands of 2 stacks"),
        ([e for e in run_of() if not e[0].endswith("command")], "commands of 0 stacks"),
    ],
)
def test_a_bag_that_cannot_be_replayed_is_refused_with_the_reason(tmp_path, entries, text):
    with pytest.raises(BagError, match=text):
        read_bag(write_bag(tmp_path / "bag", entries))


@pytest.mark.parametrize("kept", [0, 100, 2000])
def test_a_broken_bag_is_refused(tmp_path, kept):
    shutil.copytree(BAG, tmp_path / "bag")
    (file,) = (tmp_path / "bag").glob("*.mcap*")
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(BagError, match="cannot be read as a bag"):
        read_bag(tmp_path / "bag")


def test_a_bag_that_was_cut_off_is_told_from_one_that_is_none(tmp_path):
    (tmp_path / "cut.mcap").write_bytes(b"\x89MCAP0\r\n")
    with pytest.raises(BagError, match="was cut off while it was recorded"):
        read_bag(tmp_path)


def test_a_folder_that_is_no_bag_is_refused(tmp_path):
    with pytest.raises(BagError, match="cannot be read as a bag"):
        read_bag(tmp_path)


def test_a_short_bag_has_the_same_hash(tmp_path, settings):
    long = write_bag(tmp_path / "long", run_of(steps=4), version="1.2")
    shorten(long, tmp_path / "short")
    model = small_world_model()
    first, second = (replay(read_bag(path), model, settings) for path in (long, tmp_path / "short"))
    assert first.digest == second.digest and len(second.steps) == 4
    assert read_bag(tmp_path / "short").metadata == {"version": "1.2"}
    with pytest.raises(FileExistsError):
        shorten(long, tmp_path / "short")


def test_the_recording_of_a_real_franka_is_replayed(tmp_path, settings):
    """Two images and states of a robot from the reference's repository, see test/golden."""
    arrays = np.load(ROOT / "test" / "golden" / "arrays_A.npz")
    frames, states = arrays["preproc/franka_256/in"], arrays["pose/franka_states"]
    frames, states = frames.reshape(-1, *frames.shape[-3:]), states.reshape(-1, 7)
    quaternion = [Rotation.from_euler("xyz", state[3:6]).as_quat() for state in states]
    entries = [
        ("goal", 1.0, goal("goal-1", [frames[1]], [1], ["hold"])),
        ("camera/image_raw", 10.01, image(10.0, frames[0])),
        ("robot_state", 10.02, robot_state(10.0, states[0, :3], quaternion[0], states[0, 6])),
        ("command", 10.3, command("goal-1", 1, 10.0, states[1, :3], quaternion[1], states[1, 6])),
    ]
    recording = read_bag(write_bag(tmp_path / "bag", entries))
    done = replay(recording, small_world_model(), settings)
    (step,) = done.steps
    np.testing.assert_allclose(step.recorded, states[1, :3] - states[0, :3], atol=1e-6)
    assert np.isfinite([step.energy, step.predicted_energy]).all()


# Gates --------------------------------------------------------------------------------------


def step(**changes):
    values = dict(
        goal_id="goal-1", number=1, subgoal=0, recorded=np.array([0.05, 0, 0]),
        planned=np.array([0.05, 0, 0]), recorded_closedness=0.0, planned_closedness=0.0,
        energy=0.4, predicted_energy=0.3, surprise=0.05, encode_seconds=0.02, plan_seconds=0.1,
        verdict=Reason.ACCEPTED, finished="",
    )  # fmt: skip
    return ReplayedStep(**{**values, **changes})


def failed(gates, *steps, left_out=None):
    checks = judge(Replay(steps, left_out or {}, ""), gates)
    return {check.name for check in checks if not check.passed}


@pytest.mark.parametrize(
    "changes, gates, name",
    [
        (
            dict(planned=np.array([0.0, 0.05, 0])),
            dict(max_angle=1.5, max_distance=1.0),
            "max_angle",
        ),
        (dict(planned=np.array([0.09, 0, 0])), dict(max_distance=0.03), "max_distance"),
        (dict(planned=np.array([0.01, 0, 0])), dict(max_distance=1.0), "min_length"),
        (dict(planned=np.array([0.15, 0, 0])), dict(max_distance=1.0), "max_length"),
        (dict(planned_closedness=1.0), {}, "max_gripper"),
        (dict(predicted_energy=0.39), dict(min_predicted_fall=0.1), "min_predicted_fall"),
        (dict(surprise=0.2), dict(max_surprise=0.1), "max_surprise"),
        (dict(plan_seconds=2.0), dict(max_latency=0.5), "max_latency"),
        (dict(verdict=Reason.STEP_TOO_LARGE), {}, "max_refused"),
    ],
)
def test_each_gate_fails_by_what_it_is_about_and_by_nothing_else(changes, gates, name):
    assert failed(Gates(**gates), step(), step()) == set()
    assert failed(Gates(**gates), step(**changes), step(**changes)) == {name}


def test_the_energy_has_to_fall_within_a_sub_goal():
    gates = Gates(min_energy_fall=0.2)
    assert failed(gates, step(energy=0.4), step(energy=0.2)) == set()
    assert failed(gates, step(energy=0.4), step(energy=0.39)) == {"min_energy_fall"}
    # A new sub-goal starts high again.
    higher = [step(subgoal=1), step(subgoal=1, energy=0.1)]
    assert failed(gates, step(), step(energy=0.2), *higher) == set()


def test_a_replay_without_plans_fails():
    assert failed(Gates(), left_out={"no state": 3}) == {"min_steps", "max_left_out", "min_length"}


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("max_angel: 1", "unknown parameter 'max_angel'"),
        ("max_angle: -1", "max_angle is -1"),
        ("- 1", "must map names of gates"),
        ("a: [", "is no YAML"),
    ],
)
def test_gates_that_cannot_be_meant_are_refused(tmp_path, text, complaint):
    (tmp_path / "gates.yaml").write_text(text)
    with pytest.raises(SettingsError, match=complaint):
        read_gates(tmp_path / "gates.yaml")


def test_an_empty_file_of_gates_has_the_defaults(tmp_path):
    (tmp_path / "gates.yaml").write_text(yaml.safe_dump({}))
    assert read_gates(tmp_path / "gates.yaml") == Gates()


def test_an_infinite_surprise_breaks_its_bound_and_an_energy_of_zero_divides_nothing():
    assert failed(Gates(max_surprise=0.1), step(surprise=math.inf)) == {"max_surprise"}
    gates = Gates(min_energy_fall=0.2)
    # A goal that equals the first image: no fall can be measured, and none is reached.
    assert failed(gates, step(energy=0.0), step(energy=0.1)) == {"min_energy_fall"}


def test_a_planner_that_only_the_bag_names_is_not_run(monkeypatch, capsys, tmp_path):
    """A bag must not decide which code is run, and so what its own verdict is."""
    parameters = yaml.safe_dump({"planner_node": {"planner": "os:_exit"}})
    bag = write_bag(tmp_path / "bag", run_of(), parameters=parameters)
    assert run(monkeypatch, bag) == 2
    assert "give it by --config" in capsys.readouterr().err


def test_the_settings_are_the_recorded_ones_unless_others_are_given(monkeypatch, capsys, tmp_path):
    parameters = yaml.safe_dump({"planner_node": {"latent_quadratic.evaluations": 3}})
    bag = write_bag(tmp_path / "bag", run_of(), parameters=parameters)
    # Fewer than a search may have: they are taken, and refused.
    assert run(monkeypatch, bag) == 2
    assert "latent_quadratic.evaluations is 3" in capsys.readouterr().err
    assert run(monkeypatch, bag, "--preset", "paper", "--checkpoint", "nobody") == 2
    assert "nobody" in capsys.readouterr().err
