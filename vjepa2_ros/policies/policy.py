# SPDX-License-Identifier: Apache-2.0
"""Policies by their names: what decides in the loop of an episode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from vjepa2_ros.planning.planner import Planner
from vjepa2_ros.planning.planners import make_planner
from vjepa2_ros.planning.receding_horizon import RecedingHorizon, make_loop
from vjepa2_ros.policies import POLICIES
from vjepa2_ros.policies.no_motion import NoMotion
from vjepa2_ros.policies.oracle import Oracle
from vjepa2_ros.policies.random_actions import RandomActions
from vjepa2_ros.settings.planning import PlannerNodeSettings
from vjepa2_ros.settings.stack import StackSettings
from vjepa2_ros.tasks.task import Episode
from vjepa2_ros.world_model.world_model import WorldModel


@dataclass(frozen=True)
class Policy:
    """What decides, in the loop that all policies share.

    Attributes:
        settings: of the loop.
        model: encodes the pictures, and predicts where the policy asks for it.
        planner: makes what decides in an episode with the goal latents [G, N, D].
    """

    settings: PlannerNodeSettings
    model: WorldModel
    planner: Callable[[Episode, Tensor], Planner]

    def loop(self, episode: Episode, goals: Tensor) -> RecedingHorizon:
        """The loop of an episode.

        Args:
            episode: whose sub-goals say steps and gripper.
            goals: latents [G, N, D] of their pictures.

        Raises:
            ValueError: goals, settings and model do not fit each other.
        """
        return make_loop(
            self.settings,
            self.planner(episode, goals),
            self.model,
            goals,
            [subgoal.steps for subgoal in episode.subgoals],
            [subgoal.gripper for subgoal in episode.subgoals],
        )


def make_policy(
    name: str, settings: StackSettings, model: WorldModel, rivals: Path | None = None
) -> Policy:
    """The policy of a name.

    Policies that do not predict use all their steps: the setting `patience` ends an episode by a
    prediction.

    Args:
        name: one of `POLICIES`.
        settings: of the nodes.
        model: of the evaluation.
        rivals: file of `vjepa2-ros rivals` (None: the one beside the model).

    Raises:
        ValueError: there is no such policy.
    """
    planned = settings.planner
    if name == "planner":
        search = make_planner(planned.search)
        return Policy(planned, model, lambda episode, goals: search)
    direct = replace(planned, loop=replace(planned.loop, patience=0))
    if name == "none":
        return Policy(direct, model, lambda episode, goals: NoMotion())
    if name == "random":
        return Policy(direct, model, lambda episode, goals: RandomActions(episode.seed))
    if name == "oracle":
        return Policy(direct, model, lambda episode, goals: Oracle(episode.subgoals, goals))
    raise ValueError(f"unknown policy {name!r}: use {', '.join(POLICIES)}")
