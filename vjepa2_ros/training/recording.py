# SPDX-License-Identifier: Apache-2.0
"""Motion in the simulated cell, recorded as a `dataset.Dataset`.

While a recording is being made, `finished.npy` bool [E] in its folder says which episodes are
complete, so that an interrupted one is resumed.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import lru_cache
from multiprocessing.synchronize import Event
from pathlib import Path
from tokenize import TokenError

import cv2
import numpy as np
from tqdm import tqdm

from vjepa2_ros.interrupts import end_with_parent, interrupts_blocked
from vjepa2_ros.settings.cell import Workspace
from vjepa2_ros.settings.planning import ActionSettings
from vjepa2_ros.simulation.schedule import falls_on
from vjepa2_ros.simulation.simulator import (
    OBJECTS,
    TRAINING_SCENES,
    Simulator,
    SimulatorConfig,
    hand_rotation,
)
from vjepa2_ros.training.approach import approach
from vjepa2_ros.training.dataset import Dataset, allocate
from vjepa2_ros.training.distributed import by_first
from vjepa2_ros.training.play import MAX_TURN, MAX_YAW, Play

RENDER_SIZE = 256
"""Side [px] at which the camera of the cell publishes; smaller training frames are made from it."""
SCENES_PER_SEED = 10_000
"""Distance of the scenes of two training seeds."""
EPISODES_PER_JOB = 20
WORKERS = max(2, len(os.sched_getaffinity(0)))
"""Processes that record, one for each core."""
BOX_YAW = 0.26
"""The box is recorded at angles up to this one [rad] from where the fingers fit best; in episodes
in which the hand turns, up to `play.MAX_YAW`."""

Sample = tuple[np.ndarray, np.ndarray, np.ndarray, float, np.ndarray]
"""Frame uint8 RGB [S, S, 3], state [7], centres of cup and box [2, 3], commanded closedness, and
whether the two are held [2].
"""


@dataclass(frozen=True)
class RecordingConfig:
    """What is recorded.

    Attributes:
        episodes: number of episodes E.
        length: frames in an episode T, one second apart.
        size: side of the frames S [px].
        play: share of the episodes that are play at the objects; the others are random motion.
        turning: share of the episodes in which the hand turns about the vertical axis.
        seed: of scenes and motion.
        workspace: box in which the hand moves.
        max_translation: bound of one step on each axis [m], the planner's.
        approaches: whether every episode is an approach to an object (`approach`) instead.
    """

    episodes: int
    length: int
    size: int
    play: float = 0.0
    turning: float = 0.0
    seed: int = 0
    workspace: Workspace = Workspace()
    max_translation: float = ActionSettings().max_translation
    approaches: bool = False


def random_motion(
    simulator: Simulator, random: np.random.Generator, max_translation: float, turning: bool
) -> Iterator[None]:
    """Move the hand at random without an end, one second of motion a step.

    Each step moves it by at most `max_translation` per axis, every second time less; the gripper
    opens or closes, fully or partly, in half of the steps, and so does it turn, if it turns at all.
    The first step only sets gripper and yaw.

    Args:
        simulator: reset by the caller.
        random: decides everything.
        max_translation: bound of one step on each axis [m].
        turning: whether the hand turns about the vertical axis.
    """
    workspace = simulator.config.workspace
    closedness = random.choice([0.0, 1.0, random.uniform()])
    yaw = float(random.uniform(-MAX_YAW, MAX_YAW)) if turning else 0.0
    simulator.place(simulator.pose()[0], hand_rotation(yaw), closedness)
    yield
    while True:
        reach = max_translation * (1.0 if random.uniform() < 0.5 else random.uniform())
        target = simulator.pose()[0] + random.uniform(-reach, reach, 3)
        if random.uniform() < 0.5:
            closedness = random.choice([0.0, 1.0, random.uniform()])
        if turning and random.uniform() < 0.5:
            yaw = float(np.clip(yaw + random.uniform(-MAX_TURN, MAX_TURN), -MAX_YAW, MAX_YAW))
        target = np.clip(target, workspace.lower, workspace.upper)
        simulator.set_target(target, hand_rotation(yaw).as_quat(), closedness)
        simulator.advance(1.0)
        yield


def play(
    simulator: Simulator, random: np.random.Generator, max_translation: float, turning: bool
) -> Iterator[None]:
    """Play at the objects without an end, as `random_motion`."""
    player = Play(simulator, random, max_translation, turning)
    player.begin()
    yield
    yield from player.steps()


def record_episode(
    simulator: Simulator, config: RecordingConfig, motion: Iterator[None]
) -> Iterator[Sample]:
    """Yield the samples of one episode.

    Args:
        simulator: reset to the scene.
        config: length and size of the frames.
        motion: moves the hand in the simulator, one second a step.
    """
    for _ in zip(range(config.length), motion, strict=False):
        frame = simulator.render(RENDER_SIZE)
        if config.size != RENDER_SIZE:
            frame = cv2.resize(
                frame, (config.size, config.size), interpolation=cv2.INTER_LINEAR
            )
        yield (
            frame,
            simulator.state(),
            simulator.object_positions(),
            simulator.commanded_closedness,
            simulator.held(),
        )


def scene_seed(seed: int, episode: int) -> int:
    """Scene of one episode of the training `seed`: always one of `TRAINING_SCENES`."""
    return TRAINING_SCENES[(seed * SCENES_PER_SEED + episode) % len(TRAINING_SCENES)]


def collect(folder: Path, config: RecordingConfig, workers: int = WORKERS) -> Dataset:
    """Make a recording in a folder, resume one, or open it if it is already there.

    Of several processes the first one records. What the folder holds of another recording, or of
    one that is damaged, is replaced.

    Args:
        folder: of the recording.
        config: what is recorded.
        workers: processes that record.

    Raises:
        FirstProcessError: the first of several processes cannot record.
        OSError: the folder cannot be written, or its disk has no space.
        RecordingError: the recording is finished, but damaged.
        SimulatorError: MuJoCo cannot render.
    """
    by_first(lambda: _complete(folder, config, workers))
    return Dataset.open(folder)


def _complete(folder: Path, config: RecordingConfig, workers: int) -> None:
    """Record the episodes that a folder lacks."""
    wanted = json.dumps(asdict(config)).encode()
    marker, begun = folder / "dataset.json", folder / "dataset.part.json"
    if marker.is_file() and marker.read_bytes() == wanted:
        return
    folder.mkdir(parents=True, exist_ok=True)
    marker.unlink(missing_ok=True)
    if not (begun.is_file() and begun.read_bytes() == wanted and _fits(folder, config)):
        begun.unlink(missing_ok=True)
        for name, (dtype, shape) in _arrays(config).items():
            allocate(folder / f"{name}.npy", dtype, shape)
        begun.write_bytes(wanted)
    finished = np.load(folder / "finished.npy", mmap_mode="r")
    left = np.flatnonzero(~finished)
    # A renderer does not survive a fork.
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    with (
        ProcessPoolExecutor(workers, context, _start_worker, (stop,)) as pool,
        tqdm(
            total=config.episodes,
            initial=config.episodes - len(left),
            desc="collect",
            unit="episode",
        ) as bar,
    ):
        with interrupts_blocked():  # the workers inherit this
            jobs = [
                pool.submit(_record, folder, config, left[first : first + EPISODES_PER_JOB])
                for first in range(0, len(left), EPISODES_PER_JOB)
            ]
        try:
            for job in as_completed(jobs):
                bar.update(job.result())
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    begun.replace(marker)
    (folder / "finished.npy").unlink()


def _arrays(config: RecordingConfig) -> dict[str, tuple[type, tuple[int, ...]]]:
    """Type and shape of the arrays of a recording, and of those that say what is finished."""
    episodes, length, size = config.episodes, config.length, config.size
    return {
        "frames": (np.uint8, (episodes, length, size, size, 3)),
        "states": (np.float32, (episodes, length, 7)),
        "objects": (np.float32, (episodes, length, len(OBJECTS), 3)),
        "commanded": (np.float32, (episodes, length)),
        "held": (np.bool_, (episodes, length, len(OBJECTS))),
        "finished": (np.bool_, (episodes,)),
    }


def _fits(folder: Path, config: RecordingConfig) -> bool:
    """Whether the arrays in a folder are whole and those of a recording that is being made."""
    try:
        for name, (dtype, shape) in _arrays(config).items():
            array = np.lib.format.open_memmap(folder / f"{name}.npy", "r")
            if (array.dtype, array.shape) != (dtype, shape):
                return False
    except (FileNotFoundError, TokenError, ValueError):  # TokenError: of a damaged header
        return False
    return True


def _start_worker(stop: Event) -> None:
    """Keep the event that ends the recording, and end with the process that started this one."""
    global _stop
    _stop = stop
    end_with_parent()


_stop: Event


@lru_cache(maxsize=2)
def _simulator(workspace: Workspace, box_yaw: float) -> Simulator:
    return Simulator(SimulatorConfig(workspace=workspace, box_yaw=box_yaw))


def _record(folder: Path, config: RecordingConfig, episodes: np.ndarray) -> int:
    """Record some of the episodes in a worker; returns their number."""
    *arrays, finished = (
        np.load(folder / f"{name}.npy", mmap_mode="r+") for name in _arrays(config)
    )
    straight, turned = (_simulator(config.workspace, yaw) for yaw in (BOX_YAW, MAX_YAW))
    for episode in map(int, episodes):
        plays = falls_on(episode, config.play)
        # Of play and of random motion alike: the two shares are drawn apart.
        turning = bool(np.random.default_rng([config.seed, episode]).uniform() < config.turning)
        simulator = turned if turning else straight
        seed = scene_seed(config.seed, episode)
        simulator.reset(seed)
        random = np.random.default_rng(seed)
        move = approach if config.approaches else play if plays else random_motion
        motion = move(simulator, random, config.max_translation, turning)
        for step, sample in enumerate(record_episode(simulator, config, motion)):
            if _stop.is_set():
                return 0
            for array, value in zip(arrays, sample, strict=True):
                array[episode, step] = value
        finished[episode] = True
    return len(episodes)
