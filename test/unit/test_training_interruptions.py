# SPDX-License-Identifier: Apache-2.0
"""Trainings on full disks, in folders that cannot be written, and interrupted ones."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import RECORDING, TINY, command, largest_file

from vjepa2_ros.cli import train as cli
from vjepa2_ros.training import recording as recording_module
from vjepa2_ros.training.loop import LoopConfig
from vjepa2_ros.training.predictor_training import (
    Recorded,
    train_predictor,
)
from vjepa2_ros.training.recipe import (
    predictor_geometry,
)
from vjepa2_ros.training.recording import collect
from vjepa2_ros.world_model.predictor import ActionConditionedPredictor


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return collect(tmp_path_factory.mktemp("data"), RECORDING)


def test_a_disk_without_space_for_the_recording_ends_the_command_with_1(tmp_path, capsys):
    words = ("--folder", tmp_path / "work", "--output", tmp_path / "model", "--episodes", 10)
    with largest_file(1_000_000):
        assert cli.run(command(*words)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cannot train: ") and line.endswith("frames.npy")


def test_a_checkpoint_that_does_not_fit_the_disk_leaves_the_last_one(recording, tmp_path):
    recorded = Recorded(np.zeros((6, 5, 16, 48), np.float16), recording.predictor_states(True))

    def train(iterations):
        torch.manual_seed(0)
        predictor = ActionConditionedPredictor(predictor_geometry(TINY))
        loop = LoopConfig(iterations, warmup=1, checkpoint_every=1)
        train_predictor([recorded], predictor, 4, loop, tmp_path)

    train(1)
    before = (tmp_path / "predictor.pt").read_bytes()
    with largest_file(100_000), pytest.raises(OSError, match="predictor.pt"):
        train(3)
    assert (tmp_path / "predictor.pt").read_bytes() == before
    assert not list(tmp_path.glob("*.part"))
    train(3)
    assert len((tmp_path / "predictor.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("option", ["--folder", "--output"])
def test_a_folder_that_cannot_be_written_ends_the_command_before_any_work(
    tmp_path, capsys, monkeypatch, option
):
    monkeypatch.setattr(recording_module, "Simulator", None)
    (tmp_path / "file").write_text("")
    folders = {"--folder": tmp_path / "work", "--output": tmp_path / "model"}
    folders[option] = tmp_path / "file" / "inside"
    words = [word for pair in folders.items() for word in pair]
    assert cli.run(command(*words)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"cannot train: {os.strerror(errno.ENOTDIR)}: {folders[option]}"


def children(pid):
    """Processes below one, as the kernel lists them."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return set()
    return {int(child) for child in listed}.union(*(children(child) for child in listed))


def wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def training(tmp_path):
    """The command as a process group, as a terminal starts it."""
    words = [sys.executable, "-m", "vjepa2_ros.cli.main", "train", "--episodes", "200"]
    words += ["--folder", str(tmp_path / "work"), "--output", str(tmp_path / "model")]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)
    yield process
    with suppress(ProcessLookupError):  # its workers may be left without it
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize("moment", ["workers start", "workers record"])
def test_an_interrupted_recording_ends_with_one_line_and_130(training, tmp_path, moment):
    frames = tmp_path / "work" / "data" / "frames.npy"
    # A resource tracker and two workers.
    wait_until(lambda: len(children(training.pid)) >= 3)
    if moment == "workers record":
        wait_until(lambda: np.load(frames, mmap_mode="r")[:, 0].any())
    started = children(training.pid)
    os.killpg(training.pid, signal.SIGINT)
    _, errors = training.communicate(timeout=30)
    assert training.returncode == 130
    assert errors.splitlines()[-1].endswith("the same command resumes the training")
    assert "Traceback" not in errors and "Error" not in errors
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started), 30.0)


def test_no_worker_outlives_a_training_that_was_killed(training, tmp_path):
    frames = tmp_path / "work" / "data" / "frames.npy"
    wait_until(lambda: frames.exists() and np.load(frames, mmap_mode="r")[:, 0].any())
    started = children(training.pid)
    assert len(started) >= 3
    training.kill()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started), 30.0)


def test_an_interruption_anywhere_in_the_training_ends_the_command_with_130(
    tmp_path, capsys, monkeypatch
):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("vjepa2_ros.training.recipe.run", interrupted)
    assert cli.run(command("--folder", tmp_path)) == 130
    assert capsys.readouterr().err == "interrupted; the same command resumes the training\n"


def test_a_worker_that_dies_ends_the_command_with_1(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(recording_module, "_record", _die)
    words = ("--folder", tmp_path / "work", "--output", tmp_path / "model", "--episodes", 2)
    assert cli.run(command(*words)) == 1
    assert "a process that records was killed" in capsys.readouterr().err
    assert multiprocessing.active_children() == []


def _die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)
