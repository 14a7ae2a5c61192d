# SPDX-License-Identifier: Apache-2.0
"""Settings of planner_node: the searches, what they choose from, the loop and goal execution.

The searches' settings are groups under the name of the search. The paper's values (arXiv
2506.09985, appendix B.2) are those of `CEMSettings`, `GripperPolicy` and `ActionSettings`, but for
the gripper, which with a single action is better told; `config/presets/paper.yaml` has all of
them. `patience` and `min_improvement` are ours: the paper's loop has no early end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from vjepa2_ros.settings.cell import MotionCell
from vjepa2_ros.settings.declaration import Settings, group, inline, setting
from vjepa2_ros.settings.model import ModelSettings

TRANSLATION_AXES = ("x", "y", "z")
SEARCHED = ("sampled", "enumerated")
"""Modes of the gripper in which the search chooses what it does."""
GRIPPER_MODES = (*SEARCHED, "hold", "open", "close")
COSTS = ("l1", "l2")
SWITCHES = ("steps", "energy", "probe")
"""What ends a sub-goal before its number of steps."""
PLANNED = "planned"
"""What a goal says of the gripper where the policy decides."""
GRIPPER_WORDS = (PLANNED, "open", "hold", "close")
"""What a goal may say of the gripper for a sub-goal."""


def _evaluations(default: int, least: int) -> int:
    return setting(
        default, "candidates that one plan may evaluate", "", least, 1_000_000, live="any"
    )


@dataclass(frozen=True)
class LatentQuadraticSettings(Settings):
    """Quadratic surrogate of the predicted latents."""

    evaluations: int = _evaluations(32, 12)


@dataclass(frozen=True)
class QuadraticSettings(Settings):
    """Quadratic surrogate of the energies."""

    evaluations: int = _evaluations(200, 14)


@dataclass(frozen=True)
class ICEMSettings(Settings):
    """Cross-entropy method that keeps every evaluation."""

    evaluations: int = _evaluations(800, 16)


@dataclass(frozen=True)
class CMAESSettings(Settings):
    """Covariance matrix adaptation."""

    evaluations: int = _evaluations(800, 5)


@dataclass(frozen=True)
class MPPISettings(Settings):
    """Model predictive path integral control."""

    evaluations: int = _evaluations(800, 9)


@dataclass(frozen=True)
class CEMSettings(Settings):
    """The paper's cross-entropy method.

    Attributes:
        samples, iterations, top_k: candidates per iteration, iterations, elites.
        momentum_*: weight of the old mean or deviation against the elites', 0 to below 1.
        mean_sample: whether the first candidate of an iteration is the mean so far.
        initial_std: deviation of the first candidates on every axis [m, rad, closedness]; 0: the
            bounds of the action.

    Raises:
        ValueError: there are fewer samples than elites.
    """

    samples: int = setting(800, "candidates per iteration", "", 2, 100_000, live="any")
    iterations: int = setting(10, "iterations per plan", "", 1, 1000, live="any")
    top_k: int = setting(
        10, "best candidates that shape the next iteration", "", 2, 10_000, live="any"
    )
    momentum_mean: float = setting(0.0, "weight of the old mean, translation", "", 0.0, 0.99)
    momentum_mean_gripper: float = setting(0.0, "weight of the old mean, gripper", "", 0.0, 0.99)
    momentum_std: float = setting(0.0, "weight of the old deviation, translation", "", 0.0, 0.99)
    momentum_std_gripper: float = setting(
        0.0, "weight of the old deviation, gripper", "", 0.0, 0.99
    )
    mean_sample: bool = setting(
        False,
        "the first candidate of an iteration is the mean so far; true in jepa-wms",
        live="any",
    )
    initial_std: float = setting(
        0.0,
        "deviation of the first candidates on every axis, in its unit, an enumerated gripper's "
        "excepted; 0 = the bound of an action, as in the paper; 0.1 in jepa-wms",
        "", 0.0, 1.0, live="any",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < self.top_k:
            raise ValueError(f"samples must be at least top_k ({self.top_k}), not {self.samples}")

    @property
    def evaluations(self) -> int:
        """Candidates that one plan evaluates; the final mean is not counted."""
        return self.samples * self.iterations

    @classmethod
    def of(cls, evaluations: int) -> CEMSettings:
        """The paper's ten iterations from 800 evaluations on, five below; an eighth are elites."""
        iterations = 10 if evaluations >= 800 else 5
        samples = max(2, evaluations // iterations)
        return cls(samples, iterations, top_k=min(10, max(2, samples // 8)))


@dataclass(frozen=True)
class SkeletonSettings(Settings):
    """Ways with a change of the gripper before, between or after them."""

    evaluations: int = _evaluations(64, 24)


@dataclass(frozen=True)
class CustomSearchSettings(Settings):
    """A search from outside this package, named by `planner: module:Class`."""

    evaluations: int = _evaluations(200, 1)


@dataclass(frozen=True)
class SearchSettings(Settings):
    """Which search plans, and the settings of each under its name.

    Raises:
        ValueError: `planner` is neither the name of a search nor module:Class.
    """

    planner: str = setting(
        "latent_quadratic",
        "search: name of one of the groups of settings below (cem is the paper's), or "
        "module:Class of another, whose settings are under `custom`",
        live="any",
    )
    latent_quadratic: LatentQuadraticSettings = group(LatentQuadraticSettings)
    quadratic: QuadraticSettings = group(QuadraticSettings)
    icem: ICEMSettings = group(ICEMSettings)
    cma_es: CMAESSettings = group(CMAESSettings)
    mppi: MPPISettings = group(MPPISettings)
    cem: CEMSettings = group(CEMSettings)
    skeletons: SkeletonSettings = group(SkeletonSettings)
    custom: CustomSearchSettings = group(CustomSearchSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.planner not in search_names() and ":" not in self.planner:
            raise ValueError(
                f"unknown planner {self.planner!r}: use {', '.join(search_names())}, or "
                "module:Class of another"
            )

    @property
    def chosen(self) -> Any:
        """Settings of the search that plans; every class of them has `evaluations`."""
        return getattr(self, self.planner if ":" not in self.planner else "custom")


def search_names() -> tuple[str, ...]:
    """Names of the searches of this package."""
    return tuple(f.name for f in fields(SearchSettings) if f.name not in ("planner", "custom"))


@dataclass(frozen=True)
class GripperPolicy(Settings):
    """What the gripper does towards a sub-goal for which the goal says "planned".

    Attributes:
        mode: `sampled` (searched as a number within max_change, as in the paper), `enumerated`
            (searched: open or close by max_change, or hold), `hold` (what it was told last),
            `open`, `close` (fully, with the first action).
        max_change: bound of one action's change of closedness, where it is searched.
        threshold: smaller changes in a searched plan become 0.
        close_from: searched candidates close the gripper fully from this action on (0 = the first);
            -1 = nothing is prescribed.

    Raises:
        ValueError: a searched gripper would never move.
    """

    mode: str = setting(
        "hold",
        "what the gripper does where the goal does not say: searched (sampled, enumerated; the "
        "preset `contact`), or hold, open, close",
        choices=GRIPPER_MODES, live="any",
    )  # fmt: skip
    max_change: float = setting(
        0.75, "bound of one action's change of closedness, where it is searched", "", 0.01, 1.0,
        live="lower",
    )  # fmt: skip
    threshold: float = setting(
        0.25, "smaller changes of closedness in a searched plan count as none", "", 0.0, 1.0,
        live="any",
    )  # fmt: skip
    close_from: int = setting(
        -1,
        "searched candidates close the gripper from this action on (0 = the first); -1 = the "
        "search decides",
        "", -1, 14, live="any",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.is_searched and self.threshold > self.max_change:
            raise ValueError(
                f"with gripper.max_change {self.max_change} below gripper.threshold "
                f"{self.threshold} the gripper would never move: change one of them"
            )

    @property
    def is_searched(self) -> bool:
        """Whether the search chooses what the gripper does."""
        return self.mode in SEARCHED


@dataclass(frozen=True)
class ActionSettings(Settings):
    """What a plan may be made of.

    Attributes:
        horizon: actions in a candidate; the first one is executed.
        max_translation: bound of each of x, y, z per action [m].
        max_yaw: bound of the turn about the vertical axis per action [rad]; 0: it is not searched.
        yaw_limit: farthest yaw either way that is searched [rad].
        fixed_axes: text like "z=0.01, x=0": axes that are not searched, and their value [m].

    Raises:
        ValueError: `fixed_axes` is not of that form, or the gripper would close after the horizon,
            or nothing is left to search.
    """

    horizon: int = setting(
        1, "actions per candidate; the first one is executed, then everything is planned again",
        "", 1, 15, live="any",
    )  # fmt: skip
    max_translation: float = setting(
        0.075, "bound of one action on each axis", "m", 0.001, 0.3, live="lower"
    )
    max_yaw: float = setting(
        0.0,
        "bound of one action's turn about the vertical axis; 0 = the hand does not turn, as in the "
        "paper",
        "rad", 0.0, 0.45, live="any",
    )  # fmt: skip
    yaw_limit: float = setting(
        0.8, "farthest yaw either way to which the hand is turned", "rad", 0.0, 3.1, live="any"
    )
    fixed_axes: str = setting(
        "", "axes of x, y, z that are not searched, and the value each action has there: 'z=0.01'",
        live="any",
    )  # fmt: skip
    gripper: GripperPolicy = group(GripperPolicy)

    def __post_init__(self) -> None:
        super().__post_init__()
        fixed = self.fixed
        if len(fixed) == len(TRANSLATION_AXES) and not self.gripper.is_searched:
            raise ValueError("fixed_axes holds every axis, and nothing is left to search")
        if self.gripper.close_from >= self.horizon:
            raise ValueError(
                f"gripper.close_from {self.gripper.close_from} lies beyond the last of "
                f"{self.horizon} actions (they count from 0), so that the gripper would never "
                "close: lower it or raise horizon"
            )

    @property
    def fixed(self) -> dict[str, float]:
        """Axes that are not searched, and their values [m]."""
        axes = {}
        for entry in filter(None, (part.strip() for part in self.fixed_axes.split(","))):
            name, _, value = entry.partition("=")
            try:
                number = float(value)
            except ValueError:
                number = math.nan
            if name.strip() not in TRANSLATION_AXES or not math.isfinite(number):
                raise ValueError(
                    f"fixed_axes holds {entry!r}; write it like 'x=0, z=0.01' (the gripper has "
                    "settings of its own: gripper.mode)"
                )
            axes[name.strip()] = number
        return axes


@dataclass(frozen=True)
class LoopSettings(Settings):
    """The receding-horizon loop.

    Attributes:
        context: frames that the model sees: the present one and those of the steps before it.
        cost: distance between latents, `l1` (the paper's) or `l2`.
        path_weight: of the mean energy over all predicted latents, beside 1 for the last one.
        variance_weight: of the variance of the prediction in the energy, where the model has the
            part `uncertainty`.
        state_weight: of the distance of the robot's state to that of the goal image in the energy;
            goals have to say that state then.
        memory_budget: memory for what is predicted at once [MiB], the weights not counted; 0 = what
            stays in a CPU's caches, or half of what is free on a GPU.
        steps_per_subgoal: for each sub-goal that names no number itself.
        max_subgoals: most images in a goal.
        offset_free: subtract from what is predicted what the model predicts to happen without an
            action: the scene is at rest, so that this is its error.
        switch: what else ends a sub-goal than its number of steps. `steps`: nothing, as in the
            paper, but for the last one, which ends by `patience`. `energy`: `patience`, for each of
            them. `probe`: the success probe of the model, for each of them.
        switch_threshold: probability from which the probe counts a sub-goal as reached.
        patience: steps in a row without an improvement, predicted or on the least energy, after
            which a sub-goal that ends by the energy counts as reached; 0 = never. With
            `hold_unless_better` the way may lead through higher energies, and what is predicted
            counts alone.
        hold_unless_better: whether nothing is done where no plan is predicted to lower the energy;
            in the paper the best plan is carried out. A scripted gripper moves in any case.
        min_improvement: relative fall in energy that counts as a predicted improvement.
        seed: of the search's samples.

    Raises:
        ValueError: `variance_weight` without the cost `l2`, or `switch: energy` without patience.
    """

    context: int = setting(
        1, "frames that the model sees: the present one and those of the steps before it",
        "", 1, 15,
        live="any",
    )  # fmt: skip
    cost: str = setting("l1", "distance between latents", choices=COSTS, live="any")
    path_weight: float = setting(
        0.0,
        "weight of the mean energy over all predicted steps, beside 1 for the last one; 0 in the "
        "paper",
        "", 0.0, 100.0, live="any",
    )  # fmt: skip
    variance_weight: float = setting(
        0.0,
        "weight of the variance of the prediction in the energy (1: expected energies; more: what "
        "is uncertain is avoided), for models that tell it; needs cost l2",
        "", 0.0, 100.0, live="any",
    )  # fmt: skip
    state_weight: float = setting(
        0.0,
        "weight of the distance of the robot's predicted state (m, rad, closedness) to that in the "
        "goal image, which goals have to say then; 0 in the paper",
        "", 0.0, 100.0, live="any",
    )  # fmt: skip
    memory_budget: float = setting(
        0.0,
        "memory for what is predicted at once, weights not counted; 0 = 32 on a CPU, which stays "
        "in its caches, and half of what is free on a GPU",
        "MiB", 0.0, 1e6, live="any",
    )  # fmt: skip
    steps_per_subgoal: int = setting(
        15, "steps spent on each sub-goal that names no number itself", "", 1, 10_000, live="any"
    )
    max_subgoals: int = setting(64, "most images in a goal", "", 1, 1000, live="any")
    offset_free: bool = setting(
        True,
        "subtract from what is predicted what the model predicts to happen without an action; "
        "false in the paper",
        live="any",
    )
    switch: str = setting(
        "steps",
        "what ends a sub-goal before its number of steps: nothing but patience at the last one "
        "(steps), patience at each (energy), or the model's success probe (probe)",
        choices=SWITCHES, live="any",
    )  # fmt: skip
    switch_threshold: float = setting(
        0.5, "probability from which the success probe counts a sub-goal as reached",
        "", 0.01, 0.99, live="any",
    )  # fmt: skip
    patience: int = setting(
        2,
        "steps in a row without an improvement, predicted or since the steps before, after which "
        "the last sub-goal (with switch energy: each) counts as reached; 0 = never, as in the "
        "paper; without effect with switch probe",
        "", 0, 1000, live="any",
    )  # fmt: skip
    hold_unless_better: bool = setting(
        False,
        "do nothing where no plan is predicted to lower the energy; false in the paper",
        live="any",
    )
    min_improvement: float = setting(
        0.0, "relative fall in energy that counts as a predicted improvement",
        "", 0.0, 0.99, live="any",
    )  # fmt: skip
    seed: int = setting(0, "of the search's samples", "", 0, 2**31 - 1, live="any")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variance_weight > 0 and self.cost != "l2":
            raise ValueError(
                f"variance_weight {self.variance_weight} needs cost l2, not {self.cost}: set one "
                "of them"
            )
        if self.switch == "energy" and self.patience == 0:
            raise ValueError("switch energy needs a patience of 1 or more: set one of them")

    @property
    def memory_bytes(self) -> int | None:
        """`memory_budget` in bytes, None for one that fits the device."""
        return round(self.memory_budget * 2**20) or None


@dataclass(frozen=True)
class ExecutionSettings(Settings):
    """Goal execution: when an observation is planned from, and when a step is over."""

    cell: MotionCell = inline(MotionCell)
    step_duration: float = setting(
        3.0, "time given to the robot for one step before the next image is used",
        "s", 0.1, 60.0, live="any",
    )  # fmt: skip
    overlap: bool = setting(
        False,
        "plan on while the robot moves: each new command replaces the one being executed; every "
        "plan counts as a step, so raise steps_per_subgoal with it",
        live="any",
    )
    command_lifetime: float = setting(
        0.0, "how long a command may keep the robot moving; 0 = the controller's default",
        "s", 0.0, 60.0, live="any",
    )  # fmt: skip
    max_surprise: float = setting(
        0.0,
        "largest distance of an observed latent to the predicted one; beyond it the robot is "
        "halted and the goal ends; 0 = any",
        "", 0.0, 100.0, live="any",
    )  # fmt: skip
    state_tolerance: float = setting(
        0.1, "largest difference in time between an image and the robot's state that goes with it",
        "s", 0.001, 1.0,
    )  # fmt: skip


@dataclass(frozen=True)
class PlannerNodeSettings(Settings):
    """Latents, robot states and goal images to commands."""

    model: ModelSettings = inline(ModelSettings)
    search: SearchSettings = inline(SearchSettings)
    action: ActionSettings = inline(ActionSettings)
    loop: LoopSettings = inline(LoopSettings)
    execution: ExecutionSettings = inline(ExecutionSettings)
    encode_timeout: float = setting(
        30.0, "longest wait for the latents of the goal images", "s", 0.1, 600.0, live="any"
    )
    goal_folder: str = setting(
        "",
        "folder on this host whose files a goal may name by `image_paths`; empty = none may be "
        "named",
    )  # fmt: skip
    status_rate: float = setting(
        5.0, "rate of `status`, the planner's heartbeat to the controller", "Hz", 1.0, 50.0
    )
