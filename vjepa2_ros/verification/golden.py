# SPDX-License-Identifier: Apache-2.0
"""A golden set: tensors of the reference implementation, and the comparison with them.

For each set name X, a folder holds meta_X.json (what every array is), arrays_X.npz and
weights_X.safetensors (keys "<model>/<weight name>"). The set records which arrays were read, so
that those which no comparison has read can be reported.
"""

import json
import re
import zipfile
import zlib
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

Values: TypeAlias = np.ndarray | Tensor

# Kind of quantity: its words in the set's advice on tolerances, and the default without advice.
_ADVICE = {
    "feature": ("features", 1e-4),
    "energy": ("energies", 2e-6),
    "pose": ("poses", 1e-5),
    "distribution": ("mean/std", 1e-6),
}


class GoldenError(ValueError):
    """A golden set, or a part of it, cannot be used; the message names the file or array."""


@dataclass(frozen=True)
class Case:
    """The result of one comparison.

    Attributes:
        case: group of arrays, such as "ac_tiny/T2".
        what: the array or property that was compared.
        passed: whether the error is within the tolerance.
        error: largest absolute error; None where nothing could be compared.
        tolerance: largest error that passes; None where nothing could be compared.
        message: why nothing could be compared, or what differs.
    """

    case: str
    what: str
    passed: bool
    error: float | None = None
    tolerance: float | None = None
    message: str = ""


class GoldenSet:
    """One set of a folder.

    Args:
        meta_path: path of its meta_X.json.
        device: where the models of the set are built and run.

    Attributes:
        name: the X of the file names.
        meta: content of meta_X.json.
        device: as given.

    Raises:
        GoldenError: a file is missing or cannot be read.
    """

    def __init__(self, meta_path: Path, device: torch.device | str = "cpu"):
        self.name = meta_path.stem.removeprefix("meta_")
        self.device = torch.device(device)
        arrays_path = meta_path.with_name(f"arrays_{self.name}.npz")
        weights_path = meta_path.with_name(f"weights_{self.name}.safetensors")
        for path in (arrays_path, weights_path):
            if not path.is_file():
                raise GoldenError(
                    f"{path} is missing: set {self.name} needs it beside {meta_path.name}"
                )
        try:
            self.meta = json.loads(meta_path.read_text())
            with np.load(arrays_path) as archive:
                self._arrays = {name: archive[name] for name in archive.files}
            self._weights = load_file(weights_path)
        except json.JSONDecodeError as error:
            raise GoldenError(f"{meta_path} is not JSON: {error}") from error
        except (zipfile.BadZipFile, EOFError, ValueError, zlib.error, LZMAError) as error:
            raise GoldenError(
                f"{arrays_path} is truncated or not an npz archive: {error}"
            ) from error
        except SafetensorError as error:
            raise GoldenError(
                f"{weights_path} is truncated or not a safetensors file: {error}"
            ) from error
        self._unread = set(self._arrays)

    def __contains__(self, key: str) -> bool:
        return key in self._arrays

    def keys(self, prefix: str = "") -> list[str]:
        """Names of the arrays that begin with `prefix`."""
        return [key for key in self._arrays if key.startswith(prefix)]

    def groups(self, prefix: str) -> dict[str, list[str]]:
        """Names by folder under `prefix`: {"T2": ["z", "out"]} for "ac/T2/z" and "ac/T2/out"."""
        found: dict[str, list[str]] = {}
        for key in self.keys(prefix):
            group, _, name = key.removeprefix(prefix).rpartition("/")
            found.setdefault(group, []).append(name)
        return found

    def array(self, key: str) -> np.ndarray:
        """An array, which counts as read from now on.

        Raises:
            GoldenError: the set does not hold it.
        """
        if key not in self._arrays:
            raise GoldenError(f"array {key} is missing")
        self._unread.discard(key)
        return self._arrays[key]

    def tensor(self, key: str) -> Tensor:
        """As `array`, as a tensor on the CPU."""
        return torch.from_numpy(self.array(key))

    def model_input(self, key: str) -> Tensor:
        """As `array`, as a tensor on the device of the models."""
        return self.tensor(key).to(self.device)

    def weights(self, model: str) -> dict[str, Tensor]:
        """Weights of a model by their names, on the CPU.

        Raises:
            GoldenError: the set holds none.
        """
        prefix = self.meta["models"][model].get("weights_prefix", f"{model}/")
        found = {
            key.removeprefix(prefix): value
            for key, value in self._weights.items()
            if key.startswith(prefix)
        }
        if not found:
            raise GoldenError(f"weights of model {model} are missing")
        return found

    def tolerance(self, kind: str) -> float:
        """Tolerance that the set advises for a kind: feature, energy, pose or distribution."""
        word, default = _ADVICE[kind]
        advice = self.meta.get("tolerances", {}).get("advice", "")
        stated = re.search(rf"([\d.]+e-?\d+) for {re.escape(word)}", advice)
        return float(stated[1]) if stated else default

    def absent(self) -> list[str]:
        """Arrays that the set describes and does not hold."""
        return sorted(set(self.meta.get("arrays", {})) - set(self._arrays))

    def unread(self) -> list[str]:
        """Arrays that no comparison has read."""
        return sorted(self._unread)


def compare(case: str, what: str, actual: Values, expected: Values, tolerance: float) -> Case:
    """Compare two arrays or tensors of any device; different shapes and NaN fail.

    Args:
        case, what: as in `Case`.
        actual, expected: values of this package and of the set.
        tolerance: largest absolute difference that passes.
    """
    ours, theirs = _as_float64(actual), _as_float64(expected)
    if ours.shape != theirs.shape:
        message = f"shape {list(ours.shape)} instead of {list(theirs.shape)}"
        return Case(case, what, False, message=message)
    error = float(np.abs(ours - theirs).max(initial=0.0))
    return Case(case, what, error <= tolerance, error, tolerance)


def exactly(case: str, what: str, mismatches: list[str]) -> Case:
    """A comparison of names or whole numbers: passes where nothing is listed."""
    return Case(case, what, not mismatches, float(len(mismatches)), 0.0, "; ".join(mismatches[:4]))


def not_covered(case: str, what: str, why: str) -> Case:
    """A failure: the set holds something that this package does not compare."""
    return Case(case, what, False, message=f"not covered: {why}")


def _as_float64(values: Values) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.cpu().numpy()
    return np.asarray(values, dtype=np.float64)
