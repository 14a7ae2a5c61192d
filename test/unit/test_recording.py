# SPDX-License-Identifier: Apache-2.0
"""Recordings of motion in the simulated cell."""

import json
import os
from dataclasses import asdict, replace
from itertools import islice

import numpy as np
import pytest
from tiny_training import RECORDING, largest_file

from vjepa2_ros.settings.cell import Workspace
from vjepa2_ros.simulation.simulator import REST_HEIGHTS, Simulator
from vjepa2_ros.training import recording as recording_module
from vjepa2_ros.training.dataset import Dataset, allocate
from vjepa2_ros.training.play import MAX_TURN, MAX_YAW
from vjepa2_ros.training.recording import RecordingConfig, collect, play


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return collect(tmp_path_factory.mktemp("data"), RECORDING)


def test_a_recording_shows_motion_within_the_planners_bound(recording):
    steps = np.diff(recording.states[..., :3], axis=1)
    # Play adds a noise of 4 mm.
    assert np.abs(steps).max() < 0.075 + 4 * 0.004
    assert np.abs(steps).mean() > 0.01
    assert recording.frames.std(axis=1).mean() > 0.5


@pytest.fixture(scope="module")
def played():
    """Four episodes of play: whether an object is held, heights above the rest, places."""
    simulator = Simulator()
    held, heights, places = [], [], []
    for episode in range(4):
        simulator.reset(episode)
        random, turning = np.random.default_rng(episode), episode % 2 == 1
        for _ in islice(play(simulator, random, 0.075, turning), 8):
            held.append(simulator.held().any())
            heights.append(simulator.object_positions()[:, 2] - REST_HEIGHTS)
            places.append(simulator.pose()[0])
    return np.array(held), np.array(heights), np.array(places)


def test_play_shows_held_objects_and_objects_in_the_air_in_a_fair_share_of_frames(played):
    held, heights, _ = played
    assert held.mean() > 0.1
    assert (heights > 0.02).any(axis=1).mean() > 0.1


def test_play_stays_inside_the_workspace(played):
    workspace = Workspace()
    assert (played[2] > np.array(workspace.lower) - 0.01).all()
    assert (played[2] < np.array(workspace.upper) + 0.01).all()


def _record_half(folder, config, episodes):
    """In a worker: half of the episodes, a part of the next, and then Ctrl-C."""
    half = len(episodes) // 2
    recording_module._record(folder, config, episodes[:half])
    np.load(folder / "frames.npy", mmap_mode="r+")[episodes[half], :2] = 7
    raise KeyboardInterrupt


def _record_the_other_half(folder, config, episodes):
    assert episodes.tolist() == [3, 4, 5]
    return recording_module._record(folder, config, episodes)


def test_a_recording_interrupted_half_way_ends_as_an_uninterrupted_one(
    recording, tmp_path, monkeypatch
):
    monkeypatch.setattr(recording_module, "_record", _record_half)
    with pytest.raises(KeyboardInterrupt):
        collect(tmp_path, RECORDING)
    with pytest.raises(FileNotFoundError, match="no finished recording"):
        Dataset.open(tmp_path)
    monkeypatch.setattr(recording_module, "_record", _record_the_other_half)
    resumed = collect(tmp_path, RECORDING)
    for name in ("frames", "states", "objects", "commanded", "held"):
        np.testing.assert_array_equal(getattr(resumed, name), getattr(recording, name))
    assert not (tmp_path / "finished.npy").exists()


class MadeAnew(Exception):
    """Instead of recording once more."""


def _make_anew(*arguments):
    raise MadeAnew


@pytest.fixture
def begun(recording, tmp_path, monkeypatch):
    """A folder whose recording lacks nothing but its end."""
    for name in ("frames", "states", "objects", "commanded", "held"):
        np.save(tmp_path / f"{name}.npy", getattr(recording, name))
    np.save(tmp_path / "finished.npy", np.ones(RECORDING.episodes, bool))
    (tmp_path / "dataset.part.json").write_text(json.dumps(asdict(RECORDING)))
    monkeypatch.setattr(recording_module, "allocate", _make_anew)
    return tmp_path


def test_a_recording_that_lacks_only_its_end_is_finished(recording, begun):
    np.testing.assert_array_equal(collect(begun, RECORDING).states, recording.states)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("finished.npy", lambda content: b""),
        ("finished.npy", lambda content: b"PK\x03\x04 of another program"),
        ("finished.npy", lambda content: content.replace(b"(6,)", b"(6, ")),
        ("finished.npy", lambda content: content.replace(b"(6,)", b"(5,)")),
        ("finished.npy", lambda content: content.replace(b"|b1", b"|i1")),
        ("frames.npy", lambda content: content[:-1]),
        ("dataset.part.json", lambda content: b"\xff"),
        ("dataset.part.json", lambda content: content.replace(b"6", b"7")),
    ],
)
def test_a_begun_recording_that_is_damaged_or_of_another_is_made_anew(begun, file, damage):
    (begun / file).write_bytes(damage((begun / file).read_bytes()))
    with pytest.raises(MadeAnew):
        collect(begun, RECORDING)


def test_a_begun_recording_without_its_list_of_finished_episodes_is_made_anew(begun):
    (begun / "finished.npy").unlink()
    with pytest.raises(MadeAnew):
        collect(begun, RECORDING)


def test_an_unfinished_recording_is_not_opened(tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished recording"):
        Dataset.open(tmp_path)


def test_the_hand_stays_in_the_workspace_that_a_recording_is_made_for(tmp_path):
    workspace = Workspace((0.45, -0.05, 0.2), (0.55, 0.05, 0.3))
    config = RecordingConfig(2, 6, 64, workspace=workspace, max_translation=0.2)
    states = collect(tmp_path, config, workers=1).states
    assert (states[..., :3] > np.array(workspace.lower) - 0.01).all()
    assert (states[..., :3] < np.array(workspace.upper) + 0.01).all()
    assert np.abs(np.diff(states[..., :3], axis=1)).max() > 0.06


def test_a_recording_of_other_settings_is_made_anew(tmp_path):
    config = RecordingConfig(1, 3, 64)
    first = np.array(collect(tmp_path, config, workers=1).states)
    made = (tmp_path / "frames.npy").stat().st_mtime_ns
    collect(tmp_path, config, workers=1)
    assert (tmp_path / "frames.npy").stat().st_mtime_ns == made
    other = collect(tmp_path, replace(config, max_translation=0.02), workers=1).states
    assert np.abs(other - first).max() > 0.01


def test_the_hand_turns_in_the_share_of_the_episodes_that_is_asked_for(tmp_path):
    for turning, least, most in ((0.0, 0.0, 0.02), (1.0, 0.1, MAX_YAW + 0.05)):
        config = RecordingConfig(4, 5, 64, play=0.5, turning=turning)
        yaws = collect(tmp_path / str(turning), config, workers=2).states[..., 5]
        assert least <= np.abs(yaws).max() <= most
        assert np.abs(np.diff(yaws, axis=1)).max() <= MAX_TURN + 0.05


def test_the_space_of_a_recording_is_reserved_before_it_is_made(tmp_path):
    array = allocate(tmp_path / "array.npy", np.uint8, (1000, 1000))
    assert os.stat(tmp_path / "array.npy").st_blocks * 512 >= array.nbytes
    with largest_file(100_000), pytest.raises(OSError, match="array.npy"):
        allocate(tmp_path / "array.npy", np.uint8, (1000, 1000))
    assert not (tmp_path / "array.npy").exists()
