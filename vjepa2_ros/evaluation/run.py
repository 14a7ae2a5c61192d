# SPDX-License-Identifier: Apache-2.0
"""Closed-loop trials of tasks in parallel processes, each on one thread.

A trial depends on its scene and its evaluation alone, so that any number of processes, or machines
with a shard each, plays the same ones.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import starmap
from pathlib import Path
from typing import Any

import torch

from vjepa2_ros.evaluation.simulated_stack import encode_as_sent
from vjepa2_ros.evaluation.trial import Trial, play
from vjepa2_ros.interrupts import end_with_parent, interrupts_blocked
from vjepa2_ros.policies import Policy, make_policy
from vjepa2_ros.settings.model import ModelSettings
from vjepa2_ros.settings.stack import StackSettings
from vjepa2_ros.simulation.simulator import Simulator, SimulatorConfig
from vjepa2_ros.tasks import load_task
from vjepa2_ros.tasks.task import (
    EpisodeError,
    TaskOptions,
    check_options,
    draw_episode,
    scene_seeds,
)
from vjepa2_ros.world_model.checkpoint import open_world_model
from vjepa2_ros.world_model.world_model import WorldModel


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated: one cell of a table.

    Attributes:
        task: name of the task, or module:ATTRIBUTE.
        options: object, pictures, gripper and size of the pictures.
        policy: one of `POLICIES`.
        episodes: number of trials.
        seed: of the trials.
        box_yaw: largest angle of the box [rad], see `SimulatorConfig`.
        settings: of the nodes.
        most_steps: on one picture; None for what the task gives each.
        baselines: file of the fitted policies, None for the one beside the model.
        fingerprint: of the model, see `check`.

    Raises:
        ValueError: task, options and number of episodes do not fit each other.
    """

    task: str
    options: TaskOptions
    policy: str
    episodes: int
    seed: int
    box_yaw: float
    settings: StackSettings
    most_steps: int | None = None
    baselines: Path | None = None
    fingerprint: str = ""

    def __post_init__(self) -> None:
        check_options(load_task(self.task), self.options)
        scene_seeds(self.seed, self.episodes)

    def scenes(self, shard: tuple[int, int] = (1, 1)) -> list[int]:
        """Seeds of the scenes of shard I of N, counted from 1: every Nth from the Ith on."""
        part, parts = shard
        return scene_seeds(self.seed, self.episodes)[part - 1 :: parts]


def check(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Load the model and make every policy once, so that what cannot work fails before the work.

    Returns:
        The evaluations with the model's fingerprint.

    Raises:
        OSError: the model cannot be read.
        ValueError: the model, or fitted policies, are missing or do not fit.
    """
    model = open_world_model(evaluations[0].settings.planner.model)
    for evaluation in evaluations:
        make_policy(evaluation.policy, evaluation.settings, model, evaluation.baselines)
    return [
        replace(evaluation, fingerprint=_fingerprint(model, evaluation))
        for evaluation in evaluations
    ]


def _fingerprint(model: WorldModel, evaluation: Evaluation) -> str:
    """Of all that decides in an evaluation: the model and, where it is asked, the success probe."""
    if evaluation.settings.planner.loop.switch != "probe":
        return model.fingerprint
    if not model.success_fingerprint:
        raise ValueError(
            f"{evaluation.settings.planner.model.checkpoint} has no success probe, which `switch: "
            "probe` needs: train one with `vjepa2-ros train --probe`"
        )
    return f"{model.fingerprint}-{model.success_fingerprint}"


def run(
    evaluations: Sequence[Evaluation], shard: tuple[int, int], processes: int
) -> Iterator[tuple[int, Trial]]:
    """Play the trials of a shard of some evaluations.

    Args:
        evaluations: with one model.
        shard: number from 1, and number of shards.
        processes: that play; a single one is this one.

    Yields:
        Number of the evaluation and trial, in the order in which they end.

    Raises:
        ValueError: model, pictures and settings do not fit each other.
    """
    model = evaluations[0].settings.planner.model
    trials = [
        (number, evaluation, scene)
        for number, evaluation in enumerate(evaluations)
        for scene in evaluation.scenes(shard)
    ]
    if processes == 1:
        _prepare(model)
        yield from starmap(_play, trials)
        return
    # A renderer does not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _prepare_worker, (model,)) as pool:
        try:
            with interrupts_blocked():  # the workers inherit this
                jobs = [pool.submit(_play, *trial) for trial in trials]
            for job in as_completed(jobs):
                yield job.result()
        finally:
            pool.shutdown(cancel_futures=True)


# In the processes ---------------------------------------------------------------------------

_model: WorldModel


def _prepare(model_settings: ModelSettings) -> None:
    global _model
    _model = open_world_model(model_settings)
    _policies.clear()
    torch.set_num_threads(1)


def _prepare_worker(model_settings: ModelSettings) -> None:
    end_with_parent()
    _prepare(model_settings)


@lru_cache(maxsize=4)
def _simulator(config: SimulatorConfig) -> Simulator:
    return Simulator(config)


_policies: dict[int, Policy] = {}


def _play(number: int, evaluation: Evaluation, scene: int) -> tuple[int, Trial]:
    settings = evaluation.settings
    if number not in _policies:
        _policies[number] = make_policy(evaluation.policy, settings, _model, evaluation.baselines)
    simulator = _simulator(
        SimulatorConfig(workspace=settings.simulator.workspace, box_yaw=evaluation.box_yaw)
    )
    task = load_task(evaluation.task)
    episode = _of_task(
        evaluation, "draw", lambda: draw_episode(task, simulator, scene, evaluation.options)
    )
    if evaluation.most_steps is not None:
        episode = episode.with_steps(evaluation.most_steps)
    images = [subgoal.image for subgoal in episode.subgoals]
    goals = torch.stack([encode_as_sent(_model, image, settings.encoder) for image in images])
    loop = _policies[number].loop(episode, goals, simulator)
    trial = _of_task(
        evaluation, "outcome", lambda: play(simulator, task, episode, loop, settings)
    )
    return number, trial


def _of_task(evaluation: Evaluation, part: str, work: Callable[[], Any]) -> Any:
    """What `work` returns; an error of a task from outside this package gets its name."""
    try:
        return work()
    except (OSError, ValueError):
        raise
    except (Exception, SystemExit) as error:
        if ":" not in evaluation.task:
            raise
        raise EpisodeError(
            f"task {evaluation.task} failed in {part}: {error!r}; see the protocol `Task`"
        ) from error
