# SPDX-License-Identifier: Apache-2.0
"""Decisions of a policy in a task, against the best ones by the energy of what truly follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vjepa2_ros.evaluation.simulated_stack import encode_as_sent
from vjepa2_ros.evaluation.trial import Trial, play
from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.planning.objective import LatentDistance
from vjepa2_ros.planning.planner import Objective, Plan, Planner
from vjepa2_ros.policies import Policy
from vjepa2_ros.policies.true_dynamics import TrueDynamics
from vjepa2_ros.settings.stack import StackSettings
from vjepa2_ros.simulation.simulator import Simulator
from vjepa2_ros.tasks.task import Task, TaskOptions, draw_episode
from vjepa2_ros.world_model.decoder import PatchDecoder


@dataclass(frozen=True)
class Decision:
    """One plan, and what the simulator says about it.

    Attributes:
        scene: seed of the scene.
        subgoal: name of the sub-goal.
        step: number of the step in the episode, from 1.
        now: energy of the present latent.
        chosen, chosen_true: energy of the chosen plan, as predicted and as it truly would be.
        best, best_true: the same of the best plan that the same search finds with true predictions.
        hold_true: energy after doing nothing.
        chosen_closes, best_closes: changes of closedness in the first action.
        images: the present, the true and the imagined one after the chosen plan, the true one after
            the best plan, the goal; uint8 RGB [size, size, 3] each; the imagined one is None
            without a decoder.
    """

    scene: int
    subgoal: str
    step: int
    now: float
    chosen: float
    chosen_true: float
    best: float
    best_true: float
    hold_true: float
    chosen_closes: float
    best_closes: float
    images: tuple[np.ndarray | None, ...]


class _Watched:
    """A planner whose decisions are compared with those of the same search on true predictions."""

    def __init__(self, planner: Planner, truth: TrueDynamics, cell: Simulator) -> None:
        self._planner = planner
        self._truth = truth
        self._cell = cell
        self.seen: list[dict] = []

    @property
    def evaluations(self) -> int:
        """See `Planner`."""
        return self._planner.evaluations

    def plan(
        self,
        objective: Objective,
        space: ActionSpace,
        generator: torch.Generator,
        previous: Tensor | None = None,
    ) -> Plan:
        """See `Planner.plan`.

        Raises:
            TypeError: the objective is no `LatentDistance`, so that latents are unknown.
        """
        if not isinstance(objective, LatentDistance):
            raise TypeError("only energies of latents can be compared with true ones")
        chosen = self._planner.plan(objective, space, generator, previous)
        exact = LatentDistance(
            self._truth,
            objective.latent,
            objective.state,
            objective.goal,
            objective.cost,
            path_weight=objective.path_weight,
            goal_state=objective.goal_state,
            state_weight=objective.state_weight,
        )
        best = self._planner.plan(exact, space, torch.Generator().manual_seed(0), previous)
        still = torch.zeros_like(chosen.actions)
        plans = torch.stack([chosen.actions, best.actions, still])
        true, predicted = exact(plans), objective(plans)
        snapshot = self._cell.snapshot()
        decoder = objective.world_model.parts.get("decoder")
        imagined = None
        if decoder is not None:
            latent = objective.world_model.rollout(
                objective.latent, objective.state, chosen.actions[None], past=objective.past
            )
            imagined = cast(PatchDecoder, decoder).picture(latent[0])
        self.seen.append(
            {
                "chosen": float(predicted[0]),
                "chosen_true": float(true[0]),
                "best": float(predicted[1]),
                "best_true": float(true[1]),
                "hold_true": float(true[2]),
                "chosen_closes": float(chosen.actions[0, 6]),
                "best_closes": float(best.actions[0, 6]),
                "images": (
                    self._cell.render(),
                    self._truth.image(snapshot, chosen.actions),
                    imagined,
                    self._truth.image(snapshot, best.actions),
                ),
            }
        )
        return chosen


def watch(
    task: Task,
    options: TaskOptions,
    scenes: Sequence[int],
    cell: Simulator,
    settings: StackSettings,
    policy: Policy,
) -> tuple[list[Trial], list[Decision]]:
    """Play episodes, and compare every decision.

    Args:
        task: with its options.
        scenes: seeds.
        cell: in which they are played.
        settings: of the nodes.
        policy: whose decisions are compared.
    """
    trials, decisions = [], []
    model = policy.model(cell)
    truth = TrueDynamics(model, cell)
    for scene in tqdm(scenes, desc="decisions", unit="episode"):
        episode = draw_episode(task, cell, scene, options)
        goals = torch.stack(
            [encode_as_sent(model, goal.image, settings.encoder) for goal in episode.subgoals]
        )
        loop = policy.loop(episode, goals, cell)
        loop.planner = watched = _Watched(loop.planner, truth, cell)
        trial = play(cell, task, episode, loop, settings)
        trials.append(trial)
        for step, (seen, number) in enumerate(zip(watched.seen, trial.subgoals, strict=True)):
            goal = episode.subgoals[number]
            images = (*seen.pop("images"), goal.image)
            decisions.append(
                Decision(
                    scene, goal.name, step + 1, trial.energies[step], images=images, **seen
                )
            )
    return trials, decisions
