# SPDX-License-Identifier: Apache-2.0
"""The protocol of tasks, and what it speaks of: options, sub-goals, episodes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from vjepa2_ros.settings.planning import PLANNED
from vjepa2_ros.simulation.simulator import OBJECTS, TRAINING_SCENES, Simulator, Snapshot
from vjepa2_ros.tasks.outcome import Outcome
from vjepa2_ros.tasks.truth import Trace, Truth

SCENES_PER_SEED = 10_000
"""Most episodes of one evaluation, so that the scenes of two seeds never meet."""
TAUGHT, PAPER = 5, 3
"""Pictures of a whole pick-and-place: as a user teaches it, and as in the paper."""
SCRIPTED = "scripted"
"""The goal says what the gripper does; else `PLANNED`, where the planner decides."""
_ATTEMPTS = 20


class EpisodeError(ValueError):
    """An episode cannot be drawn; the text says why and what to change."""


@dataclass(frozen=True)
class TaskOptions:
    """How a task is set.

    Attributes:
        object: one of the task's objects; None for a task without.
        pictures: `TAUGHT` or `PAPER`.
        gripper: `SCRIPTED` or `PLANNED`.
        image_size: side of the pictures [pixels].
    """

    object: str | None = None
    pictures: int = TAUGHT
    gripper: str = SCRIPTED
    image_size: int = 256


@dataclass(frozen=True)
class SubGoal:
    """One picture on the way.

    Attributes:
        name: what it shows.
        image: uint8 RGB [size, size, 3], of a state that physics reached.
        hand: tool centre point in it [3] in metres.
        closedness: commanded in it, 0 (open) to 1 (closed).
        gripper: "open", "hold", "close" or "planned".
        steps: to spend on it.
        state: of the robot in it [7], as measured; None where it is unknown.
    """

    name: str
    image: np.ndarray
    hand: np.ndarray
    closedness: float
    gripper: str
    steps: int
    state: np.ndarray | None = None


@dataclass(frozen=True)
class Episode:
    """One trial.

    Attributes:
        seed: of the scene.
        object: name of the object that it is about, None without.
        start: state of the cell at its start.
        subgoals: in order.
        target: where the hand, or the object, has to be at the end [3] in metres.
    """

    seed: int
    object: str | None
    start: Snapshot
    subgoals: tuple[SubGoal, ...]
    target: np.ndarray

    @property
    def object_index(self) -> int:
        """Place of the object in `OBJECTS`."""
        return OBJECTS.index(self.object)

    def with_steps(self, most: int) -> Episode:
        """The same with at most so many steps on each picture."""
        fewer = (replace(goal, steps=min(goal.steps, most)) for goal in self.subgoals)
        return replace(self, subgoals=tuple(fewer))


class Task(Protocol):
    """Where an episode starts, the pictures towards its end, and what counts as success.

    A task whose number of pictures, or whose gripper, is the same whatever the options say may
    have attributes `pictures` and `gripper` for the table.
    """

    @property
    def description(self) -> str:
        """What the robot has to do, in a sentence."""

    @property
    def objects(self) -> tuple[str, ...]:
        """Names of the objects that it can be done with; empty for a task without."""

    def draw(
        self, simulator: Simulator, random: np.random.Generator, options: TaskOptions
    ) -> Episode:
        """Draw an episode in a scene; the simulator may be left anywhere.

        Args:
            simulator: reset to the scene.
            random: decides what the scene leaves open.
            options: checked by `draw_episode`.

        Raises:
            TeachingError: a state that a picture should show was not reached.
        """

    def outcome(self, episode: Episode, trace: Trace, refused: bool) -> Outcome:
        """Judge an episode by the truth over its time.

        Args:
            episode: as drawn.
            trace: from its start to its end.
            refused: whether the goal ended because commands were refused.
        """


class TeachingError(RuntimeError):
    """A state that a picture should show was not reached."""


def draw_episode(task: Task, simulator: Simulator, seed: int, options: TaskOptions) -> Episode:
    """The episode of a seed, the same each time; leaves the simulator at its start.

    What is solved already at its start, or what the hand that takes the pictures does not reach, is
    drawn again, in another scene.

    Raises:
        EpisodeError: options do not fit the task, or no episode could be drawn.
    """
    check_options(task, options)
    for attempt in range(_ATTEMPTS):
        simulator.reset(seed, variant=attempt)
        try:
            episode = task.draw(simulator, np.random.default_rng([seed, 2, attempt]), options)
        except TeachingError:
            continue
        simulator.restore(episode.start)
        if not task.outcome(episode, Trace([Truth.of(simulator)]), refused=False).success:
            return episode
    raise EpisodeError(f"scene {seed} allows no episode: use another seed")


def check_options(task: Task, options: TaskOptions) -> None:
    """Raise EpisodeError if options are none, or do not fit a task."""
    if task.objects and options.object not in task.objects:
        raise EpisodeError(
            f"the task needs an object: one of {', '.join(task.objects)}, not {options.object!r}"
        )
    if not task.objects and options.object is not None:
        raise EpisodeError(f"the task has no object, so {options.object!r} cannot be used with it")
    if options.pictures not in (TAUGHT, PAPER):
        raise EpisodeError(
            f"pictures may be {TAUGHT} (taught) or {PAPER} (the paper's), not {options.pictures}"
        )
    if options.gripper not in (SCRIPTED, PLANNED):
        raise EpisodeError(
            f"the gripper may be {SCRIPTED} or {PLANNED}, not {options.gripper!r}"
        )


def scene_seeds(seed: int, episodes: int) -> list[int]:
    """Scenes of the evaluation `seed`: different ones for each seed, and none used in training.

    Raises:
        ValueError: `seed` is negative, or `episodes` not within 1 … `SCENES_PER_SEED`.
    """
    if seed < 0:
        raise ValueError(f"the seed must be 0 or more, not {seed}")
    if not 1 <= episodes <= SCENES_PER_SEED:
        raise ValueError(f"{episodes} episodes: a seed has scenes for 1 to {SCENES_PER_SEED}")
    first = seed * SCENES_PER_SEED
    if first >= TRAINING_SCENES.start:
        first += len(TRAINING_SCENES)
    return list(range(first, first + episodes))
