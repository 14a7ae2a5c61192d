# SPDX-License-Identifier: Apache-2.0
"""Recordings to train on: fixed-length episodes in `.npy` files.

A folder holds `frames.npy` uint8 [E, T, S, S, 3] (RGB), `states.npy` float32 [E, T, 7] (measured,
see `Simulator.state`), `commanded.npy` float32 [E, T] (closedness that the gripper was told last),
`objects.npy` float32 [E, T, 2, 3] (true centres of cup and box [m]) and `held.npy` bool [E, T, 2]
(whether both fingers touch them). The last three may be absent. The last two are for read-outs and
for the labels of the success probe only: the world model is not trained on them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FARTHEST = 10.0
"""Positions farther from the robot's base are no metres [m]."""


class RecordingError(ValueError):
    """A folder whose files are no recording to train on; the text says why."""


@dataclass
class Dataset:
    """Memory-mapped arrays of one recording; the module's docstring has their shapes.

    Attributes:
        frames: uint8 [E, T, H, W, 3].
        states: float32 [E, T, 7].
        objects: float32 [E, T, 2, 3], or None where they are unknown, as on a robot.
        commanded: closedness that the gripper was told last, float32 [E, T], or None where it is
            unknown.
        held: bool [E, T, 2], or None where it is unknown.
    """

    frames: np.ndarray
    states: np.ndarray
    objects: np.ndarray | None
    commanded: np.ndarray | None = None
    held: np.ndarray | None = None

    @classmethod
    def open(cls, folder: Path) -> Dataset:
        """Map a finished recording.

        Raises:
            FileNotFoundError: the folder holds none, or one that was not finished.
            RecordingError: the arrays are damaged, have other shapes or are not finite.
        """
        if not (folder / "dataset.json").is_file():
            raise FileNotFoundError(
                f"no finished recording in {folder}: run `vjepa2-ros train` to make one"
            )
        try:
            frames, states = (_map(folder / f"{name}.npy") for name in ("frames", "states"))
            objects, commanded, held = (
                _map(folder / f"{name}.npy") if (folder / f"{name}.npy").exists() else None
                for name in ("objects", "commanded", "held")
            )
        except OSError:
            raise
        except Exception as error:  # numpy raises anything at all on a damaged header
            raise RecordingError(f"the arrays in {folder} cannot be read: {error}") from error
        if frames.ndim != 5 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
            raise RecordingError(
                f"{folder}/frames.npy must be uint8 [E, T, H, W, 3], not {frames.dtype} "
                f"{list(frames.shape)}"
            )
        if states.shape != (*frames.shape[:2], 7) or states.dtype != np.float32:
            raise RecordingError(
                f"{folder}/states.npy must be float32 {[*frames.shape[:2], 7]}, not {states.dtype} "
                f"{list(states.shape)}"
            )
        if not np.isfinite(states).all():
            raise RecordingError(f"{folder}/states.npy holds values that are not finite")
        if np.abs(states[..., :3]).max(initial=0.0) > FARTHEST:
            raise RecordingError(
                f"{folder}/states.npy holds positions more than {FARTHEST:g} m from the base: are "
                "they metres?"
            )
        if commanded is not None and not (
            commanded.shape == states.shape[:2]
            and commanded.dtype == np.float32
            and np.isfinite(commanded).all()
        ):
            raise RecordingError(
                f"{folder}/commanded.npy must be finite float32 {list(states.shape[:2])}, not "
                f"{commanded.dtype} {list(commanded.shape)}"
            )
        return cls(frames, states, objects, commanded, held)

    def predictor_states(self, commanded_gripper: bool) -> np.ndarray:
        """States as a predictor takes them, float32 [E, T, 7].

        Args:
            commanded_gripper: see `PredictorConfig`.

        Raises:
            RecordingError: it is wanted, and was not recorded.
        """
        if not commanded_gripper:
            return self.states
        if self.commanded is None:
            raise RecordingError(
                "the model takes the closedness that the gripper was told: the recording needs a "
                "commanded.npy, float32 [episodes, length]"
            )
        states = np.array(self.states)
        states[..., 6] = self.commanded
        return states


def _map(path: Path) -> np.ndarray:
    """Memory-map a `.npy` file; ValueError for anything else."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no file")
    array = np.load(path, mmap_mode="r")
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path} is no .npy file")
    return array


def allocate(path: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap:
    """Make a memory-mapped `.npy` file whose space on the disk is reserved.

    A mapped file without reserved space kills the process that writes to it when the disk is full.

    Raises:
        OSError: there is no space, or the file cannot be written.
    """
    try:
        array = np.lib.format.open_memmap(path, "w+", dtype, shape)
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    return array
