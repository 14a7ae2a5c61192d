# SPDX-License-Identifier: Apache-2.0
"""The planner's parameters; planning/settings.py makes the core's settings of them.

Defaults of the search are the paper's (arXiv 2506.09985, appendix B.2); the shipped YAML file says
where and why the small model's differ. Those of the loop are ours: the paper has no early end as
`patience` gives.
"""

from __future__ import annotations

from vjepa2_ros.planning.action_space import GRIPPERS, ActionSpace
from vjepa2_ros.planning.cem import CEMConfig
from vjepa2_ros.planning.objective import COSTS
from vjepa2_ros.planning.planners import PLANNERS
from vjepa2_ros.robot.safety import MotionLimits
from vjepa2_ros.ros.parameters import Parameter

_PAPER = CEMConfig()
_SPACE = ActionSpace()
_LIMITS = MotionLimits()

PLANNER_PARAMETERS = (
    Parameter("planner", "cem", f"search: {', '.join(PLANNERS)}, or module:Class of another"),
    Parameter("evaluations", 8000, "candidates per plan; cem counts by `samples` and `iterations`",
              minimum=5, maximum=1_000_000),
    Parameter("samples", _PAPER.samples, "cem: candidates per iteration",
              minimum=2, maximum=100_000),
    Parameter("iterations", _PAPER.iterations, "cem: iterations per plan",
              minimum=1, maximum=1000),
    Parameter("top_k", _PAPER.top_k, "cem: best candidates that shape the next iteration",
              minimum=2, maximum=10_000),
    Parameter("horizon", _SPACE.horizon, "actions per candidate", minimum=1, maximum=15),
    Parameter("max_translation", _SPACE.max_translation, "bound of one action on each axis",
              "m", 0.001, 0.3),
    Parameter("max_gripper", _SPACE.max_gripper, "bound of one action's change of closedness",
              minimum=0.01, maximum=1.0),
    Parameter("gripper", _SPACE.gripper,
              "how the gripper is searched: as a number, or as one of open, hold, close",
              choices=GRIPPERS),
    Parameter("workspace_lower", list(_LIMITS.workspace_lower),
              "lower corner of the box that no target leaves, the controller's",
              "m", -2.0, 2.0, length=3),
    Parameter("workspace_upper", list(_LIMITS.workspace_upper),
              "upper corner of the box that no target leaves, the controller's",
              "m", -2.0, 2.0, length=3),
    Parameter("gripper_threshold", _SPACE.gripper_threshold,
              "smaller changes of closedness are taken for none", minimum=0.0, maximum=1.0),
    Parameter("momentum_mean", _PAPER.momentum_mean, "cem: weight of the old mean, translation",
              minimum=0.0, maximum=0.99),
    Parameter("momentum_mean_gripper", _PAPER.momentum_mean_gripper,
              "cem: weight of the old mean, gripper", minimum=0.0, maximum=0.99),
    Parameter("momentum_std", _PAPER.momentum_std, "cem: weight of the old deviation, translation",
              minimum=0.0, maximum=0.99),
    Parameter("momentum_std_gripper", _PAPER.momentum_std_gripper,
              "cem: weight of the old deviation, gripper", minimum=0.0, maximum=0.99),
    Parameter("fixed_axes", "",
              "axes that are not searched and the value held, as in 'gripper=0, z=0.01'"),
    Parameter("close_gripper_from", -1,
              "candidates close the gripper from this action on (0 = the first); -1 = the "
              "gripper is searched",
              minimum=-1, maximum=14),
    Parameter("context", 1, "frames that the model sees: the present and those of steps before",
              minimum=1, maximum=15),
    Parameter("cost", "l1", "distance between latents", choices=COSTS),
    Parameter("memory_budget", 0.0,
              "memory for what is imagined at once, weights not counted; 0 = what stays in a "
              "CPU's caches, or half of what is free on a GPU", "MiB", 0.0, 1e6),
    Parameter("steps_per_subgoal", 15, "steps spent on each sub-goal that names no number",
              minimum=1, maximum=10_000),
    Parameter("patience", 2,
              "steps without a predicted improvement after which the last sub-goal counts as "
              "reached; 0 = never, as in the paper", minimum=0, maximum=1000),
    Parameter("min_improvement", 0.0, "relative fall in energy that counts as an improvement",
              minimum=0.0, maximum=0.99),
    Parameter("seed", 0, "of the planner's samples", minimum=0, maximum=2**31 - 1),
)  # fmt: skip
