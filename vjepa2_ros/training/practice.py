# SPDX-License-Identifier: Apache-2.0
"""Practice: what comes of plans that are made with what the predictor has learned so far.

A search finds whatever a predictor is too optimistic about, and neither random motion nor play
shows what comes of just that. So plans are carried out in training scenes, good ones and bad ones,
and recorded like play, as in Ross and Bagnell, "Agnostic system identification for model-based
reinforcement learning" (ICML 2012). What the predictor gets wrong there its uncertainty learns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from vjepa2_ros.planning.planners import make_planner
from vjepa2_ros.planning.receding_horizon import RecedingHorizon, make_loop
from vjepa2_ros.settings.files import resolve
from vjepa2_ros.settings.planning import PLANNED, PlannerNodeSettings
from vjepa2_ros.simulation.actions import go_to
from vjepa2_ros.simulation.simulator import Simulator
from vjepa2_ros.tasks import load_task
from vjepa2_ros.tasks.task import PAPER, Episode, EpisodeError, TaskOptions, draw_episode
from vjepa2_ros.training.play import MAX_TURN, Play
from vjepa2_ros.world_model.world_model import WorldModel

_STEPS = 7  # towards one picture at most
_EVALUATIONS = 64


@dataclass(frozen=True)
class _Practised:
    """How, and in what share of the episodes, a task is practised."""

    preset: str
    horizon: int
    share: float


_TASKS = {
    "pick_and_place": _Practised("contact", 3, 0.5),
    # The only picture shows the object lifted: down to it, grip, and up.
    "grasp": _Practised("contact", 5, 0.2),
    "reach_with_object": _Practised("contact", 3, 0.1),
    "push": _Practised("push", 7, 0.2),
}


class Practice:
    """Practises the tasks in which contact decides.

    Args:
        model: plans.
        max_translation: bound of one step on each axis [m].
    """

    def __init__(self, model: WorldModel, max_translation: float) -> None:
        self._model = model
        self._bound = max_translation
        self._settings = {name: _settings(task) for name, task in _TASKS.items()}

    def steps(
        self, simulator: Simulator, random: np.random.Generator, turning: bool
    ) -> Iterator[None]:
        """Practise one task, then play, without an end; one second of motion a step.

        Args:
            simulator: reset by the caller.
            random: decides on the task.
            turning: whether the hand turns about the vertical axis.
        """
        name = str(random.choice(list(_TASKS), p=[task.share for task in _TASKS.values()]))
        task = load_task(name)
        options = TaskOptions(str(random.choice(task.objects)), PAPER, PLANNED)
        try:
            episode = draw_episode(task, simulator, simulator.seed, options)
        except EpisodeError:  # in a scene that does not allow one
            simulator.reset(simulator.seed)
        else:
            loop = self._loop(self._settings[name], episode, simulator, turning)
            yield from self._act(loop, simulator, len(episode.subgoals[0].image))
        yield from Play(simulator, random, self._bound, turning).steps()

    def _loop(
        self,
        settings: PlannerNodeSettings,
        episode: Episode,
        simulator: Simulator,
        turning: bool,
    ) -> RecedingHorizon:
        action = replace(
            settings.action,
            max_translation=self._bound,
            max_yaw=MAX_TURN if turning else 0.0,
        )
        cell = replace(settings.execution.cell, workspace=simulator.config.workspace)
        settings = replace(
            settings, action=action, execution=replace(settings.execution, cell=cell)
        )
        subgoals = episode.with_steps(_STEPS).subgoals
        goals = [self._model.encode(subgoal.image) for subgoal in subgoals]
        return make_loop(
            settings,
            make_planner(settings.search),
            self._model,
            torch.stack(goals),
            [subgoal.steps for subgoal in subgoals],
            [subgoal.gripper for subgoal in subgoals],
        )

    def _act(self, loop: RecedingHorizon, simulator: Simulator, size: int) -> Iterator[None]:
        yield
        while not loop.finished:
            commanded = simulator.commanded_closedness
            state = torch.from_numpy(simulator.state())
            if self._model.predictor.config.commanded_gripper:
                state[6] = commanded
            step = loop.step(
                self._model.encode(simulator.render(size)), state, commanded_closedness=commanded
            )
            go_to(simulator, step.target_state)
            yield


def _settings(task: _Practised) -> PlannerNodeSettings:
    options = {"horizon": task.horizon, "skeletons.evaluations": _EVALUATIONS}
    return resolve(preset=task.preset, options={"planner_node": options}).settings.planner
