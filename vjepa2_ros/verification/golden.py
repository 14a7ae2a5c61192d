# SPDX-License-Identifier: Apache-2.0
"""A golden set: tensors of the reference implementation, and the comparison with them.

A folder holds, per set name X, meta_X.json (what every array is), arrays_X.npz
and weights_X.safetensors (keys "<model>/<weight name>").  The set counts which
arrays were asked for: what nobody asked for was not verified.
"""

import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

# Kinds of quantity, their words in the set's advice on tolerances, figures where it is silent.
_ADVICE = {
    "feature": ("features", 1e-4),
    "energy": ("energies", 2e-6),
    "pose": ("poses", 1e-5),
    "distribution": ("mean/std", 1e-6),
}


class GoldenError(ValueError):
    """A golden set, or a part of it, that cannot be read; the message names the file or array."""


@dataclass(frozen=True)
class Case:
    """One comparison: the maximal absolute error of `what` in `case`, or why there is none."""

    case: str
    what: str
    passed: bool
    error: float | None = None
    tolerance: float | None = None
    message: str = ""


class GoldenSet:
    """One set of a folder.  Raises GoldenError where a file is missing or unreadable."""

    def __init__(self, meta_path: Path):
        self.name = meta_path.stem.removeprefix("meta_")
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
            raise GoldenError(f"{meta_path} is no JSON: {error}") from error
        except (zipfile.BadZipFile, EOFError, ValueError) as error:
            raise GoldenError(f"{arrays_path} is truncated or no npz archive: {error}") from error
        except SafetensorError as error:
            raise GoldenError(
                f"{weights_path} is truncated or no safetensors file: {error}"
            ) from error
        self._unread = set(self._arrays)

    def __contains__(self, key: str) -> bool:
        return key in self._arrays

    def keys(self, prefix: str = "") -> list[str]:
        return [key for key in self._arrays if key.startswith(prefix)]

    def groups(self, prefix: str) -> dict[str, list[str]]:
        """Names by folder under `prefix`: {"T2": ["z", "out"]} for "ac/T2/z" and "ac/T2/out"."""
        found: dict[str, list[str]] = {}
        for key in self.keys(prefix):
            group, _, name = key.removeprefix(prefix).rpartition("/")
            found.setdefault(group, []).append(name)
        return found

    def array(self, key: str) -> np.ndarray:
        if key not in self._arrays:
            raise GoldenError(f"array {key} is missing")
        self._unread.discard(key)
        return self._arrays[key]

    def tensor(self, key: str) -> Tensor:
        return torch.from_numpy(self.array(key))

    def weights(self, model: str) -> dict[str, Tensor]:
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
        """Arrays that no comparison has asked for."""
        return sorted(self._unread)


def compare(case: str, what: str, actual, expected, tolerance: float) -> Case:
    """Maximal absolute difference of two arrays or tensors; another shape or a NaN fails."""
    actual, expected = (np.asarray(x, dtype=np.float64) for x in (actual, expected))
    if actual.shape != expected.shape:
        return Case(
            case,
            what,
            False,
            message=f"shape {list(actual.shape)} instead of {list(expected.shape)}",
        )
    error = float(np.abs(actual - expected).max(initial=0.0))
    return Case(case, what, error <= tolerance, error, tolerance)


def exactly(case: str, what: str, mismatches: list[str]) -> Case:
    """A comparison of names or whole numbers: passes where nothing is listed."""
    return Case(case, what, not mismatches, float(len(mismatches)), 0.0, "; ".join(mismatches[:4]))


def not_covered(case: str, what: str, why: str) -> Case:
    return Case(case, what, False, message=f"not covered: {why}")
