# SPDX-License-Identifier: Apache-2.0
"""A taught goal in one file: pictures of sub-goals in order, with steps and gripper of each.

A ZIP archive with the pictures and `goal.json`, so that it can be looked into and made by anything.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vjepa2_ros.execution.goal_request import MAX_STEPS
from vjepa2_ros.settings.planning import GRIPPER_WORDS, PLANNED

FORMAT = "vjepa2_ros goal 1"
SUFFIX = ".goal"
MAX_SUBGOALS = 1000
MAX_BYTES = 100_000_000
"""Most bytes of all pictures together."""
_INDEX = "goal.json"
_LARGEST = 10.0  # metres from the base, radians, closedness
_MAX_INDEX_BYTES = 1_000_000


class GoalFileError(ValueError):
    """A file holds no taught goal; the text says why."""


@dataclass(frozen=True)
class TaughtSubgoal:
    """One sub-goal.

    Attributes:
        image: content of an image file.
        steps: to spend on it.
        gripper: one of `GRIPPER_WORDS`.
        state: of the robot in it, as in `world_model.poses`: x, y, z, roll, pitch, yaw, closedness;
            None where it is unknown.
    """

    image: bytes
    steps: int
    gripper: str = PLANNED
    state: tuple[float, ...] | None = None


def save_goal(path: Path, subgoals: Sequence[TaughtSubgoal]) -> None:
    """Write a goal.

    Raises:
        FileExistsError: there is such a file; it stays as it is.
        OSError: it cannot be written.
    """
    names = [f"{number}.png" for number in range(1, len(subgoals) + 1)]
    entries = [
        {"image": name, "steps": subgoal.steps, "gripper": subgoal.gripper}
        | ({} if subgoal.state is None else {"state": subgoal.state})
        for name, subgoal in zip(names, subgoals, strict=True)
    ]
    content = io.BytesIO()
    # Pictures are compressed already.
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_INDEX, json.dumps({"format": FORMAT, "subgoals": entries}, indent=2))
        for name, subgoal in zip(names, subgoals, strict=True):
            archive.writestr(name, subgoal.image)
    with open(path, "xb") as file:
        try:
            file.write(content.getbuffer())
            file.flush()
        except OSError:
            # What is half written would keep the name from being used again.
            path.unlink()
            raise


def load_goal(path: Path) -> list[TaughtSubgoal]:
    """Read a goal; the pictures are not decoded.

    Raises:
        GoalFileError: it is no taught goal, is too large or broken.
        OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            index = json.loads(_read(archive, _INDEX, _MAX_INDEX_BYTES))
            entries = index.get("subgoals") if isinstance(index, dict) else None
            if not isinstance(entries, list) or index.get("format") != FORMAT or not entries:
                raise GoalFileError(f"its {_INDEX} is not of the format {FORMAT!r}")
            if len(entries) > MAX_SUBGOALS:
                raise GoalFileError(f"it has {len(entries)} sub-goals, more than {MAX_SUBGOALS}")
            left, subgoals = MAX_BYTES, []
            for number, entry in enumerate(entries, start=1):
                subgoals.append(_subgoal(archive, entry, left, number))
                left -= len(subgoals[-1].image)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - zipfile raises half a dozen kinds for broken files
        raise GoalFileError(f"{path} is no taught goal: {error}") from error
    return subgoals


def _subgoal(
    archive: zipfile.ZipFile, entry: object, left: int, number: int
) -> TaughtSubgoal:
    wanted = {"image": str, "steps": int, "gripper": str}
    if not isinstance(entry, dict) or any(
        type(entry.get(name)) is not kind for name, kind in wanted.items()
    ):
        raise GoalFileError(f"sub-goal {number} has no image, steps or gripper")
    if not 1 <= entry["steps"] <= MAX_STEPS or entry["gripper"] not in GRIPPER_WORDS:
        raise GoalFileError(
            f"sub-goal {number} has {entry['steps']!r:.20} steps and the gripper "
            f"{entry['gripper']!r:.99}: use 1 to {MAX_STEPS}, and {', '.join(GRIPPER_WORDS)}"
        )
    state = entry.get("state")
    if state is not None:
        numbers = isinstance(state, list) and all(type(x) in (int, float) for x in state)
        if not numbers or len(state) != 7 or not all(abs(x) <= _LARGEST for x in state):
            raise GoalFileError(
                f"sub-goal {number} has a state that is not 7 numbers of up to {_LARGEST:g}"
            )
        state = tuple(map(float, state))
    image = _read(archive, entry["image"], left)
    return TaughtSubgoal(image, entry["steps"], entry["gripper"], state)


def _read(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Content of a member, of which no more is unpacked than is allowed."""
    try:
        with archive.open(name) as member:
            data = member.read(most + 1)
    except KeyError:
        raise GoalFileError(f"it has no {name!r:.99}") from None
    if len(data) > most:
        raise GoalFileError(f"{name!r:.99} is too large")
    return data
