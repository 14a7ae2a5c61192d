# SPDX-License-Identifier: Apache-2.0
"""What a replay has to keep to, and whether it does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vjepa2_ros import plain_yaml
from vjepa2_ros.replay.replay import Replay, ReplayedStep
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.settings.declaration import Settings, SettingsError, build, setting

_TAKEN = (Reason.ACCEPTED, Reason.CLAMPED)


@dataclass(frozen=True)
class Gates(Settings):
    """Bounds of a replay; what is 0 or less is not checked, but for `max_refused`."""

    min_steps: int = setting(1, "plans that there must be", "", 0, 100_000)
    max_refused: float = setting(
        0.0, "largest share of commands that the gate refuses", "", 0.0, 1.0
    )
    max_left_out: float = setting(
        0.5, "largest share of recorded commands without a plan", "", 0.0, 1.0
    )
    max_angle: float = setting(
        0.6, "largest median angle between planned and recorded motions", "rad", 0.0, math.pi
    )
    max_distance: float = setting(
        0.03, "largest median distance between planned and recorded targets", "m", 0.0, 1.0
    )
    min_length: float = setting(
        0.5, "least median length of planned motions, as a share of the recorded ones",
        "", 0.0, 10.0,
    )  # fmt: skip
    max_length: float = setting(
        2.0, "largest median length of planned motions, as a share of the recorded ones",
        "", 0.0, 10.0,
    )  # fmt: skip
    max_gripper: float = setting(
        0.2, "largest share of commands whose closedness is off by more than a quarter",
        "", 0.0, 1.0,
    )  # fmt: skip
    min_energy_fall: float = setting(
        0.0, "least fall of the energy from the first to the last step of a sub-goal, as a share; "
        "the median over sub-goals of several steps",
        "", 0.0, 1.0,
    )  # fmt: skip
    min_predicted_fall: float = setting(
        0.0, "least fall of the energy that a plan predicts, as a share; the median",
        "", 0.0, 1.0,
    )  # fmt: skip
    max_surprise: float = setting(
        0.0, "largest surprise: distance of an observed latent to the predicted one", "", 0.0, 100.0
    )
    max_latency: float = setting(
        0.0, "longest encoding and planning, the 95th percentile", "s", 0.0, 3600.0
    )


@dataclass(frozen=True)
class Check:
    """One gate, judged.

    Attributes:
        name: of the gate.
        value: what was found; NaN where there is nothing to measure.
        bound: as text, with its direction.
        passed: whether the value keeps to it.
        detail: what the value is of.
    """

    name: str
    value: float
    bound: str
    passed: bool
    detail: str


def read_gates(path: Path) -> Gates:
    """Gates of a YAML file that maps names to values.

    Raises:
        SettingsError: it is no such file, or a name or a value cannot be used.
        OSError: it cannot be read.
    """
    try:
        given = plain_yaml.load(path.read_text())
    except ValueError as error:
        raise SettingsError(f"{path} is no YAML: {error}") from error
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise SettingsError(f"{path} must map names of gates to values")
    try:
        return build(Gates, {str(name): value for name, value in given.items()})
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error


def judge(replay: Replay, gates: Gates) -> list[Check]:
    """Every gate that is checked."""
    steps = replay.steps
    left_out = sum(replay.left_out.values())
    total = len(steps) + left_out
    checks = [_least("min_steps", len(steps), gates.min_steps, "plans")]
    refused = [step for step in steps if step.verdict not in _TAKEN]
    names = ", ".join(sorted({step.verdict.name for step in refused}))
    checks.append(
        _most("max_refused", _share(len(refused), len(steps)), gates.max_refused, names or "plans")
    )
    why = "; ".join(f"{count} {text}" for text, count in replay.left_out.items())
    checks.append(
        _most("max_left_out", _share(left_out, total), gates.max_left_out, why or "commands")
    )
    optional: tuple[tuple[Callable, str, float, str], ...] = (
        (_most, "max_angle", _median(step.angle for step in steps), "median angle [rad]"),
        (_most, "max_distance", _median(s.distance for s in steps), "median distance [m]"),
        (_least, "min_length", _lengths(steps), "median of planned to recorded"),
        (_most, "max_length", _lengths(steps), "median of planned to recorded"),
        (_most, "max_gripper", _gripper(steps), "share of commands"),
        (_least, "min_energy_fall", _fall(steps), "median over sub-goals"),
        (_least, "min_predicted_fall", _predicted_fall(steps), "median over plans"),
        (_most, "max_surprise", _largest(s.surprise for s in steps), "largest"),
        (_most, "max_latency", _latency(steps), "95th percentile [s]"),
    )
    for kind, name, value, detail in optional:
        if (bound := getattr(gates, name)) > 0:
            checks.append(kind(name, value, bound, detail))
    return checks


def _most(name: str, value: float, bound: float, detail: str) -> Check:
    # Nothing to measure breaks no upper bound.
    return Check(name, value, f"≤ {bound:g}", not value > bound, detail)


def _least(name: str, value: float, bound: float, detail: str) -> Check:
    # Nothing to measure reaches no lower bound.
    return Check(name, value, f"≥ {bound:g}", value >= bound, detail)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _known(values) -> np.ndarray:
    """Those that are numbers; what is infinite stays, and breaks its bound."""
    found = np.array(list(values), float)
    return found[~np.isnan(found)]


def _median(values) -> float:
    found = _known(values)
    return float(np.median(found)) if len(found) else math.nan


def _largest(values) -> float:
    found = _known(values)
    return float(found.max()) if len(found) else math.nan


def _lengths(steps: Sequence[ReplayedStep]) -> float:
    return _median(
        np.linalg.norm(step.planned) / np.linalg.norm(step.recorded)
        for step in steps
        if np.linalg.norm(step.recorded) > 0.003
    )


def _gripper(steps: Sequence[ReplayedStep]) -> float:
    off = sum(abs(s.planned_closedness - s.recorded_closedness) > 0.25 for s in steps)
    return _share(off, len(steps))


def _fall(steps: Sequence[ReplayedStep]) -> float:
    by_subgoal: dict[tuple[str, int], list[float]] = {}
    for step in steps:
        by_subgoal.setdefault((step.goal_id, step.subgoal), []).append(step.energy)
    return _median(
        1.0 - energies[-1] / energies[0]
        for energies in by_subgoal.values()
        if len(energies) > 1 and energies[0] > 0
    )


def _predicted_fall(steps: Sequence[ReplayedStep]) -> float:
    return _median(1.0 - s.predicted_energy / s.energy for s in steps if s.energy > 0)


def _latency(steps: Sequence[ReplayedStep]) -> float:
    found = _known(step.encode_seconds + step.plan_seconds for step in steps)
    return float(np.quantile(found, 0.95)) if len(found) else math.nan
