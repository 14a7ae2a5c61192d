# SPDX-License-Identifier: Apache-2.0
"""The loop and its planner from typed settings, until the planning room takes them itself."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from vjepa2_ros.planning import planners
from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.planning.cem import CEMConfig, CrossEntropyMethod
from vjepa2_ros.planning.planner import Planner
from vjepa2_ros.planning.receding_horizon import RecedingHorizon, RecedingHorizonSettings
from vjepa2_ros.settings.declaration import values_of
from vjepa2_ros.settings.planning import PlannerNodeSettings, SearchSettings
from vjepa2_ros.world_model.world_model import WorldModel


def make_planner(settings: SearchSettings) -> Planner:
    """The search that the settings choose."""
    if settings.planner == "cem":
        return CrossEntropyMethod(CEMConfig(**values_of(settings.cem)))
    return planners.make_planner(settings.planner, settings.chosen.evaluations)


def make_loop(
    settings: PlannerNodeSettings,
    planner: Planner,
    world_model: WorldModel,
    goals: Tensor,
    steps: Sequence[int] = (),
    gripper: Sequence[str] = (),
) -> RecedingHorizon:
    """The loop for a goal; ValueError where goals, settings and model do not fit each other."""
    action, loop = settings.action, settings.loop
    policy, workspace = action.gripper, settings.execution.cell.workspace
    fixed: dict = action.fixed
    script = list(gripper) or ["planned"] * len(goals)
    if policy.mode == "hold":
        fixed["gripper"] = 0.0
    elif policy.mode in ("open", "close"):
        script = [policy.mode if entry == "planned" else entry for entry in script]
    space = ActionSpace(
        horizon=action.horizon,
        max_translation=action.max_translation,
        max_gripper=policy.max_change,
        gripper=policy.mode if policy.is_searched else "sampled",
        gripper_threshold=policy.threshold,
        fixed_axes=fixed,
        close_gripper_from=None if policy.close_from < 0 else policy.close_from,
    )
    return RecedingHorizon(
        planner,
        world_model,
        goals,
        RecedingHorizonSettings(
            steps_per_subgoal=list(steps) or [loop.steps_per_subgoal] * len(goals),
            space=space,
            workspace=(workspace.lower, workspace.upper),
            context=loop.context,
            gripper=script,
            cost=loop.cost,
            memory_budget=loop.memory_bytes,
            patience=loop.patience or None,
            min_improvement=loop.min_improvement,
            seed=loop.seed,
        ),
    )
