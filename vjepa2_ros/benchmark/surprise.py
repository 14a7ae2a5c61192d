# SPDX-License-Identifier: Apache-2.0
"""How well surprise tells what happens to a scene from what the robot does to it.

Episodes are played in simulated time; in some, one thing happens between two steps. The surprise of
the step after it is compared with that of all steps before which nothing happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from vjepa2_ros.evaluation.simulated_stack import SimulatedStack, encode_as_sent
from vjepa2_ros.planning.planners import make_planner
from vjepa2_ros.planning.receding_horizon import RecedingHorizon, make_loop
from vjepa2_ros.planning.step import Step
from vjepa2_ros.settings.stack import StackSettings
from vjepa2_ros.simulation.simulator import Simulator, SimulatorConfig
from vjepa2_ros.tasks import load_task
from vjepa2_ros.tasks.task import TaskOptions, draw_episode
from vjepa2_ros.world_model.world_model import WorldModel

TASKS = (("reach_with_object", "cup"), ("reach_with_object", "box"),
         ("pick_and_place", "cup"), ("pick_and_place", "box"))  # fmt: skip
"""Tasks and objects that are played."""
_SCENES = 5_000  # seeds from here on: neither trained nor evaluated on
_LATEST = 5  # step before which something happens at the latest
_DARK = 40  # grey of what covers the camera


class CoveredSimulator(Simulator):
    """The simulated cell with something before its camera.

    Attributes:
        covered: share of the image, from the left.
    """

    covered = 0.0

    def render(self, size: int = 256) -> np.ndarray:
        """See `Simulator.render`."""
        image = super().render(size)
        if self.covered:
            image = image.copy()
            image[:, : round(self.covered * size)] = _DARK
        return image


def _push(distance: float) -> Callable[[CoveredSimulator, np.random.Generator], None]:
    def push(simulator: CoveredSimulator, random: np.random.Generator) -> None:
        index, angle = int(random.integers(2)), random.uniform(0.0, 2.0 * np.pi)
        place = simulator.object_positions()[index, :2]
        offset = distance * np.array([np.cos(angle), np.sin(angle)])
        simulator.place_object(index, place + offset)

    return push


def _swap(simulator: CoveredSimulator, _: np.random.Generator) -> None:
    cup, box = simulator.object_positions()[:, :2]
    simulator.place_object(0, box)
    simulator.place_object(1, cup)


def _nothing(_: CoveredSimulator, __: np.random.Generator) -> None:
    pass


def _cover(share: float) -> Callable[[CoveredSimulator, np.random.Generator], None]:
    def cover(simulator: CoveredSimulator, _: np.random.Generator) -> None:
        simulator.covered = share

    return cover


EVENTS: dict[str, Callable[[CoveredSimulator, np.random.Generator], None]] = {
    "an object pushed by 2 cm": _push(0.02),
    "an object pushed by 5 cm": _push(0.05),
    "cup and box swapped": _swap,
    "a third of the camera covered": _cover(1 / 3),
    "the camera covered": _cover(1.0),
}
"""What happens, by name."""


@dataclass(frozen=True)
class Sample:
    """The surprise of one step.

    Attributes:
        task: name and object.
        scene: seed.
        event: what happened before it; empty for nothing.
        value: the surprise.
    """

    task: str
    scene: int
    event: str
    value: float


class _Disturbed:
    """A loop that has something happen after a step, and keeps the surprises."""

    def __init__(self, loop: RecedingHorizon, after: int, happen: Callable[[], None]) -> None:
        self._loop, self._after, self._happen = loop, after, happen
        self.surprises: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def step(self, *arguments: Any, **named: Any) -> Step:
        step = self._loop.step(*arguments, **named)
        self.surprises.append(step.surprise)
        if len(self.surprises) == self._after:
            self._happen()
        return step


def samples(
    model: WorldModel, settings: StackSettings, scenes: int, seed: int
) -> Iterator[list[Sample]]:
    """Play each task once without and once with each event, in a number of scenes.

    Yields:
        The samples of an episode; there are `len(TASKS) * scenes * (len(EVENTS) + 1)` episodes.
    """
    simulator = CoveredSimulator(SimulatorConfig(workspace=settings.simulator.workspace))
    for name, thing in TASKS:
        task = load_task(name)
        for number in range(scenes):
            scene = _SCENES + 1000 * seed + number
            for order, event in enumerate(("", *EVENTS)):
                random = np.random.default_rng([scene, order])
                simulator.covered = 0.0
                episode = draw_episode(task, simulator, scene, TaskOptions(thing))
                subgoals = episode.subgoals
                goals = [encode_as_sent(model, g.image, settings.encoder) for g in subgoals]
                loop = make_loop(
                    settings.planner,
                    make_planner(settings.planner.search),
                    model,
                    torch.stack(goals),
                    [subgoal.steps for subgoal in subgoals],
                    [subgoal.gripper for subgoal in subgoals],
                )
                after = int(random.integers(1, _LATEST)) if event else 0
                happen = EVENTS.get(event, _nothing)
                disturbed = _Disturbed(loop, after, partial(happen, simulator, random))
                simulator.restore(episode.start)
                SimulatedStack(simulator, settings).execute(disturbed)  # type: ignore[arg-type]
                # What comes before an event is in the undisturbed episode, too.
                yield [
                    Sample(f"{name} {thing}", scene, event, value)
                    for index, value in enumerate(disturbed.surprises)
                    if index > 0 and (not event or index == after)
                ]


def separation(found: list[Sample]) -> dict[str, Any]:
    """Figures of all samples.

    Returns:
        `ordinary`: number, median, 99th percentile and largest of the steps before which nothing
        happened; `threshold`: a tenth above the largest; for each event `count`, `median`, `auc`
        (the share of pairs of an event and an ordinary step in which the event surprises more) and
        `found`, the share above the threshold.
    """
    ordinary = np.array([sample.value for sample in found if not sample.event])
    threshold = 1.1 * float(ordinary.max())
    events = {}
    for event in EVENTS:
        values = np.array([sample.value for sample in found if sample.event == event])
        if len(values):
            events[event] = {
                "count": len(values),
                "median": float(np.median(values)),
                "auc": float((values[:, None] > ordinary[None]).mean()),
                "found": float((values > threshold).mean()),
            }
    return {
        "ordinary": {
            "count": len(ordinary),
            "median": float(np.median(ordinary)),
            "quantile_99": float(np.quantile(ordinary, 0.99)),
            "largest": float(ordinary.max()),
        },
        "threshold": threshold,
        "events": events,
    }


def held_out(found: list[Sample]) -> dict[str, float]:
    """False alarms and detections with a threshold from the other half of the scenes.

    Returns:
        `false_alarms`: share of ordinary steps; `found`: share of all events.
    """
    alarms, hits, ordinary, events = 0, 0, 0, 0
    for parity in (0, 1):
        seen = [s.value for s in found if not s.event and s.scene % 2 != parity]
        if not seen:
            continue
        threshold = 1.1 * max(seen)
        for sample in found:
            if sample.scene % 2 == parity:
                above = sample.value > threshold
                alarms += above and not sample.event
                hits += above and bool(sample.event)
                ordinary += not sample.event
                events += bool(sample.event)
    return {"false_alarms": alarms / max(1, ordinary), "found": hits / max(1, events)}
