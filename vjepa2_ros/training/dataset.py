# SPDX-License-Identifier: Apache-2.0
"""Random motion in the simulated cell, recorded as fixed-length episodes in plain `.npy` files.

A folder holds `frames.npy` uint8 [E, T, S, S, 3] (RGB), `states.npy` float32 [E, T, 7] (measured,
see `Simulator.state`) and `objects.npy` float32 [E, T, 2, 3] (true centres of cup and box [m]).
The last one is for read-outs alone: no training step opens it.
"""

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from vjepa2_ros.simulation.simulator import DOWN, TRAINING_SCENES, Simulator

RENDER_SIZE = 256
"""Side [px] at which the camera of the cell publishes; smaller training frames are made from it."""
SCENES_PER_SEED = 10_000
"""Distance of the scenes of two training seeds."""


@dataclass
class Dataset:
    """Memory-mapped arrays of one recording; see the module's text for shapes."""

    frames: np.ndarray
    states: np.ndarray
    objects: np.ndarray

    @classmethod
    def open(cls, folder: Path) -> "Dataset":
        """Map a finished recording.

        Raises:
            FileNotFoundError: the folder holds none, or one that was not finished.
        """
        if not (folder / "dataset.json").is_file():
            raise FileNotFoundError(
                f"no finished recording in {folder}: run `vjepa2-ros train` to make one"
            )
        return cls(
            *(
                np.load(folder / f"{name}.npy", mmap_mode="r")
                for name in ("frames", "states", "objects")
            )
        )


def random_episode(simulator: Simulator, seed: int, length: int, size: int):
    """Yield one episode of random motion step by step.

    Each step is (frame [size, size, 3] uint8, state [7], objects [2, 3]).

    The hand starts anywhere in the workspace, and each step of one second moves it by at most the
    planner's bound of 7.5 cm per axis, every third time less; the gripper opens or closes, fully
    or partly, in half of the steps.
    """
    random = np.random.default_rng(seed)
    config = simulator.config
    simulator.reset(seed)
    closedness = random.choice([0.0, 1.0, random.uniform()])
    simulator.place(simulator.pose()[0], DOWN, closedness)
    for step in range(length):
        if step > 0:
            reach = 0.075 * (1.0 if random.uniform() < 0.67 else random.uniform())
            target = simulator.pose()[0] + random.uniform(-reach, reach, 3)
            if random.uniform() < 0.5:
                closedness = random.choice([0.0, 1.0, random.uniform()])
            simulator.set_target(
                np.clip(target, config.workspace.lower, config.workspace.upper),
                DOWN.as_quat(),
                closedness,
            )
            simulator.advance(1.0)
        frame = simulator.render(RENDER_SIZE)
        if size != RENDER_SIZE:
            frame = cv2.resize(frame, (size, size), interpolation=cv2.INTER_LINEAR)
        yield frame, simulator.state(), simulator.object_positions()


def scene_seed(seed: int, episode: int) -> int:
    """Scene of one episode of the training `seed`: always one of `TRAINING_SCENES`."""
    return TRAINING_SCENES[(seed * SCENES_PER_SEED + episode) % len(TRAINING_SCENES)]


def _record(folder: Path, first: int, last: int, seed: int) -> int:
    arrays = [
        np.load(folder / f"{name}.npy", mmap_mode="r+") for name in ("frames", "states", "objects")
    ]
    simulator = Simulator()
    for episode in range(first, last):
        length, size = arrays[0].shape[1:3]
        samples = random_episode(simulator, scene_seed(seed, episode), length, size)
        for step, sample in enumerate(samples):
            for array, value in zip(arrays, sample, strict=True):
                array[episode, step] = value
    return last - first


def collect(
    folder: Path, episodes: int, length: int, size: int, seed: int, workers: int = 2
) -> Dataset:
    """Record `episodes` × `length` frames of `size` × `size` px, or open them if already there."""
    wanted = {"episodes": episodes, "length": length, "size": size, "seed": seed}
    marker = folder / "dataset.json"
    if marker.is_file() and json.loads(marker.read_text()) == wanted:
        return Dataset.open(folder)
    folder.mkdir(parents=True, exist_ok=True)
    marker.unlink(missing_ok=True)
    for name, shape, kind in (
        ("frames", (size, size, 3), np.uint8),
        ("states", (7,), np.float32),
        ("objects", (2, 3), np.float32),
    ):
        np.lib.format.open_memmap(
            folder / f"{name}.npy", "w+", kind, (episodes, length, *shape)
        ).flush()
    # a renderer does not survive a fork
    context = multiprocessing.get_context("spawn")
    chunk = 20
    with (
        ProcessPoolExecutor(workers, mp_context=context) as pool,
        tqdm(total=episodes, desc="collect", unit="episode") as bar,
    ):
        jobs = [
            pool.submit(_record, folder, first, min(first + chunk, episodes), seed)
            for first in range(0, episodes, chunk)
        ]
        for job in as_completed(jobs):
            bar.update(job.result())
    marker.write_text(json.dumps(wanted))
    return Dataset.open(folder)
