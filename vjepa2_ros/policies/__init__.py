# SPDX-License-Identifier: Apache-2.0
"""Baselines of the planner: what else decides in the same loop, on the same pictures.

Each policy differs from the planner in its decisions alone: sub-goals, steps, scripted gripper,
workspace and targets are those of the same receding-horizon loop. So the difference between two
policies says what the planner, or the world model, is worth. Nothing heavy is imported before a
policy is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from vjepa2_ros.planning.planner import Planner
    from vjepa2_ros.planning.receding_horizon import RecedingHorizon
    from vjepa2_ros.settings.planning import PlannerNodeSettings
    from vjepa2_ros.settings.stack import StackSettings
    from vjepa2_ros.simulation.simulator import Simulator
    from vjepa2_ros.tasks.task import Episode
    from vjepa2_ros.world_model.world_model import WorldModel

FITTED = ("readout", "linear", "cloning")
"""Names of the policies that `vjepa2-ros baselines` fits to a model."""
POLICIES = ("planner", "none", "random", "oracle", "simulator", *FITTED)
"""Names of all policies."""


@dataclass(frozen=True)
class Policy:
    """What decides, in the loop that all policies share.

    Attributes:
        settings: of the loop.
        model: makes, for a cell, what encodes the pictures and predicts where the policy asks for
            it.
        planner: makes what decides in an episode with the goal latents [G, N, D].
        gripper: what the gripper does towards every sub-goal; None for what each says.
    """

    settings: PlannerNodeSettings
    model: Callable[[Simulator], WorldModel]
    planner: Callable[[Episode, Tensor], Planner]
    gripper: str | None = None

    def loop(self, episode: Episode, goals: Tensor, cell: Simulator) -> RecedingHorizon:
        """The loop of an episode.

        Args:
            episode: whose sub-goals say steps and gripper.
            goals: latents [G, N, D] of their pictures.
            cell: in which it is played.

        Raises:
            ValueError: goals, settings and model do not fit each other.
        """
        from vjepa2_ros.planning.receding_horizon import make_loop

        return make_loop(
            self.settings,
            self.planner(episode, goals),
            self.model(cell),
            goals,
            [subgoal.steps for subgoal in episode.subgoals],
            [self.gripper or subgoal.gripper for subgoal in episode.subgoals],
            _states(episode),
        )


def _states(episode: Episode) -> Tensor | None:
    """States of the robot in the pictures [G, 7]; None where one is unknown."""
    import numpy as np
    import torch

    states = [subgoal.state for subgoal in episode.subgoals]
    known = [state for state in states if state is not None]
    if len(known) < len(states):
        return None
    return torch.from_numpy(np.stack(known)).float()


def make_policy(
    name: str, settings: StackSettings, model: WorldModel, baselines: Path | None = None
) -> Policy:
    """The policy of a name.

    Policies that do not predict use all their steps: the setting `patience` ends an episode by a
    prediction. There is nothing to correct in them either.

    Args:
        name: one of `POLICIES`.
        settings: of the nodes.
        model: of the evaluation.
        baselines: file of `vjepa2-ros baselines` (None: the one beside the model).

    Raises:
        ValueError: there is no such policy, or the planner that the settings name.
        BaselinesError: the policy is fitted, and the file is missing, damaged or of another model.
    """
    from vjepa2_ros.planning.planners import make_planner
    from vjepa2_ros.policies.baselines import baselines_path, load_baselines
    from vjepa2_ros.policies.cloning import Cloning
    from vjepa2_ros.policies.linear import LinearWorldModel
    from vjepa2_ros.policies.no_motion import NoMotion
    from vjepa2_ros.policies.oracle import Oracle
    from vjepa2_ros.policies.random_actions import RandomActions
    from vjepa2_ros.policies.readout import ReadOut
    from vjepa2_ros.policies.true_dynamics import TrueDynamics

    planned = settings.planner
    # Without predictions nothing is ever expected to be better.
    switch = "probe" if planned.loop.switch == "probe" else "steps"
    loop = replace(
        planned.loop, patience=0, switch=switch, offset_free=False, hold_unless_better=False
    )
    direct = replace(planned, loop=loop)

    def same(cell: Simulator) -> WorldModel:
        return model

    if name == "planner":
        search = make_planner(planned.search)
        return Policy(planned, same, lambda episode, goals: search)
    if name == "none":
        # Told to close, the loop would close the gripper for any plan.
        return Policy(direct, same, lambda episode, goals: NoMotion(), gripper="hold")
    if name == "random":
        return Policy(direct, same, lambda episode, goals: RandomActions(episode.seed))
    if name == "oracle":
        return Policy(direct, same, lambda episode, goals: Oracle(episode.subgoals, goals))
    if name == "simulator":
        search = make_planner(planned.search)
        exact = replace(planned, loop=replace(planned.loop, offset_free=False))
        # Its copy of the cell has a renderer: one for all episodes.
        truth = lru_cache(maxsize=1)(lambda cell: TrueDynamics(model, cell))
        return Policy(exact, truth, lambda episode, goals: search)
    if name not in POLICIES:
        raise ValueError(f"unknown policy {name!r}: use {', '.join(POLICIES)}")
    fitted = load_baselines(baselines or baselines_path(planned.model.checkpoint), model)
    if name == "linear":
        linear = LinearWorldModel(model, fitted.linear)
        search = make_planner(planned.search)
        return Policy(
            planned, lambda cell: linear, lambda episode, goals: search
        )
    if name == "readout":
        return Policy(direct, same, lambda episode, goals: ReadOut(fitted.readout))
    return Policy(direct, same, lambda episode, goals: Cloning(fitted.cloner))
