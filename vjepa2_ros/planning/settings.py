# SPDX-License-Identifier: Apache-2.0
"""The planner's settings as the configuration files give them: flat names, plain values.

The planner node and `vjepa2-ros evaluate` read the same file through here, so that what was
evaluated is what runs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from vjepa2_ros.planning.action_space import AXES, ActionSpace
from vjepa2_ros.planning.cem import CEMConfig, CrossEntropyMethod
from vjepa2_ros.planning.planner import Planner
from vjepa2_ros.planning.planners import make_planner
from vjepa2_ros.planning.receding_horizon import RecedingHorizonSettings

_OF_THE_SPACE = ("horizon", "max_translation", "max_gripper", "gripper", "gripper_threshold")
_OF_CEM = (
    "samples",
    "iterations",
    "top_k",
    "momentum_mean",
    "momentum_mean_gripper",
    "momentum_std",
    "momentum_std_gripper",
)


def read_node_parameters(path: Path) -> dict[str, Any]:
    """Parameters of the one node that a ROS parameter file configures.

    Raises:
        ValueError: the file is none, or configures several nodes.
    """
    try:
        (node,) = yaml.safe_load(path.read_text()).values()
        return dict(node["ros__parameters"])
    except (AttributeError, KeyError, TypeError, ValueError, yaml.YAMLError):
        raise ValueError(
            f"{path} is not a parameter file of one node (a node's name, then `ros__parameters`)"
        ) from None


def planner(values: Mapping[str, Any]) -> Planner:
    """The planner; "cem" by its own settings, every other by its number of evaluations.

    Raises:
        ValueError: they make no sense.
    """
    if values["planner"] == "cem":
        return CrossEntropyMethod(CEMConfig(**{name: values[name] for name in _OF_CEM}))
    return make_planner(values["planner"], values["evaluations"])


def action_space(values: Mapping[str, Any]) -> ActionSpace:
    """What the planner may choose from; `close_gripper_from` below 0 leaves the gripper to it.

    Raises:
        ValueError: they make no sense.
    """
    first_closed, horizon = values["close_gripper_from"], values["horizon"]
    if first_closed >= horizon:
        raise ValueError(
            f"close_gripper_from {first_closed} lies beyond the last of {horizon} actions (they "
            "count from 0), so that the gripper would never close: lower it or raise horizon"
        )
    fixed = fixed_axes(values["fixed_axes"])
    if set(fixed) == set(AXES):
        raise ValueError("fixed_axes holds every axis, and nothing is left to search")
    return ActionSpace(
        **{name: values[name] for name in _OF_THE_SPACE},
        fixed_axes=fixed,
        close_gripper_from=None if first_closed < 0 else first_closed,
    )


def loop_settings(
    values: Mapping[str, Any], steps: Sequence[int], gripper: Sequence[str] = ()
) -> RecedingHorizonSettings:
    """Settings of the loop for sub-goals of so many steps, with the gripper's script for them.

    `memory_budget` 0 means one that fits the device, `patience` 0 none.
    """
    return RecedingHorizonSettings(
        steps_per_subgoal=steps,
        space=action_space(values),
        workspace=(values["workspace_lower"], values["workspace_upper"]),
        context=values["context"],
        cost=values["cost"],
        gripper=gripper,
        memory_budget=round(values["memory_budget"] * 2**20) or None,
        patience=values["patience"] or None,
        min_improvement=values["min_improvement"],
        seed=values["seed"],
    )


def fixed_axes(text: str) -> dict[str, float]:
    """Axes and values of a text like "gripper=0, z=0.01".

    Raises:
        ValueError: an entry is not of that form.
    """
    axes = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = entry.partition("=")
        try:
            axes[name.strip()] = float(value)
        except ValueError:
            raise ValueError(
                f"fixed_axes holds {entry!r}; write it like 'gripper=0, z=0.01'"
            ) from None
    return axes
