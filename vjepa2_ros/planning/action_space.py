# SPDX-License-Identifier: Apache-2.0
"""What a planner may choose from: sequences of bounded end-effector actions.

Translation and gripper are searched (arXiv 2506.09985, appendix B.2); of the rotation only the yaw,
and only where it is asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from vjepa2_ros.settings.cell import Workspace
from vjepa2_ros.settings.planning import (
    PLANNED,
    TRANSLATION_AXES,
    ActionSettings,
    GripperPolicy,
)

AXES = (*TRANSLATION_AXES, "gripper")
"""Axes that are always there; "yaw" follows them where it is searched."""
_GRIPPER = AXES.index("gripper")
_DEFAULTS = ActionSettings()


@dataclass(frozen=True)
class ActionSpace:
    """Bounds, what is held fixed, and the box that no target leaves.

    Attributes:
        horizon: actions in a sequence.
        max_translation: bound of each of x, y, z per action [m].
        gripper: how the change of closedness is searched; its mode is "sampled" or "enumerated".
        fixed_axes: axis ("x", "y", "z", "gripper") to the value that it is held at, or to one value
            per action.
        workspace: box of all targets, base frame (None: no box).
        start: position [3] from which a sequence starts, float32 [m]; needed with a box.
        closing: the gripper is told to close: by how much it can. How far it gets depends on what
            is between the fingers, so the first action is searched from 0 to here. None: not told.
        closedness: of the gripper where a sequence starts: a searched one neither opens nor closes
            beyond 0 and 1. None: changes have no bounds but their own.
        max_yaw: bound of the turn about the vertical axis per action [rad]; 0: it is not searched.
        yaw: where a sequence starts [rad]; a searched one does not leave `yaw_limit`.
        yaw_limit: farthest yaw either way [rad].

    Raises:
        ValueError: values are out of range or do not fit each other.
    """

    horizon: int = _DEFAULTS.horizon
    max_translation: float = _DEFAULTS.max_translation
    gripper: GripperPolicy = GripperPolicy(mode="sampled")
    fixed_axes: Mapping[str, float | Sequence[float]] = field(default_factory=dict)
    workspace: Workspace | None = None
    start: Tensor | None = None
    closing: float | None = None
    closedness: float | None = None
    max_yaw: float = 0.0
    yaw: float = 0.0
    yaw_limit: float = _DEFAULTS.yaw_limit

    def __post_init__(self):
        if self.horizon < 1:
            raise ValueError(f"horizon must be at least 1, got {self.horizon}")
        if not 0 < self.max_translation < float("inf"):
            raise ValueError(
                f"max_translation must be a positive number, got {self.max_translation}"
            )
        told = "gripper" in self.fixed_axes or self.closing is not None
        if not self.gripper.is_searched and not told:
            raise ValueError(
                f"a gripper with mode {self.gripper.mode!r} needs a value in fixed_axes"
            )
        if not set(self.fixed_axes) <= set(AXES):
            raise ValueError(
                f"fixed_axes must be a mapping of some of {', '.join(AXES)}, got {self.fixed_axes}"
            )
        if not all(np.isfinite(value).all() for value in self.fixed_axes.values()):
            raise ValueError(f"fixed_axes must be finite, got {self.fixed_axes}")
        if not 0 <= self.max_yaw < float("inf"):
            raise ValueError(f"max_yaw must be a finite number from 0, got {self.max_yaw}")
        if set(self.fixed_axes) == set(self.axes):
            raise ValueError("fixed_axes holds every axis, and nothing is left to search")
        if (self.workspace is None) != (self.start is None):
            raise ValueError(
                "a workspace needs the position that sequences start from, and reverse"
            )

    @classmethod
    def at(
        cls,
        state: Tensor,
        settings: ActionSettings,
        workspace: Workspace | None = None,
        gripper: str = PLANNED,
        commanded_gripper: bool = False,
    ) -> "ActionSpace":
        """The space of plans that start from a state.

        Args:
            state: [7] of the robot.
            settings: bounds, fixed axes and gripper policy.
            workspace: box of all targets (None: no box).
            gripper: "planned" for what the policy says; "open", "hold" or "close" overrule it.
            commanded_gripper: whether the model takes changes of what the gripper is told, not of
                how far its fingers get; see `PredictorConfig`.

        Raises:
            ValueError: as the constructor.
        """
        fixed: dict[str, float | Sequence[float]] = dict(settings.fixed)
        policy, word = settings.gripper, gripper
        if word == PLANNED and not policy.is_searched:
            word = policy.mode
        closing, closedness = None, min(max(float(state[6]), 0.0), 1.0)
        if word != PLANNED:
            policy = replace(policy, mode=word, close_from=-1)
            if word == "close" and not commanded_gripper:
                closing = 1.0 - closedness
            else:
                change = {"open": -closedness, "hold": 0.0, "close": 1.0 - closedness}[word]
                fixed["gripper"] = [change] + [0.0] * (settings.horizon - 1)
        return cls(
            settings.horizon,
            settings.max_translation,
            policy,
            fixed,
            workspace,
            None if workspace is None else state[:3],
            closing,
            closedness if commanded_gripper else None,
            settings.max_yaw,
            float(state[5]),
            settings.yaw_limit,
        )

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the A axes of an action: `AXES`, and "yaw" where it is searched."""
        return (*AXES, "yaw") if self.max_yaw > 0 else AXES

    @property
    def bounds(self) -> Tensor:
        """Largest change [A] of an action on each of `axes`."""
        turn = [self.max_yaw] if self.max_yaw > 0 else []
        return torch.tensor([self.max_translation] * 3 + [self.gripper.max_change] + turn)

    @property
    def free_axes(self) -> list[int]:
        """Numbers of the axes that are searched, in the order of `axes`."""
        return [number for number, axis in enumerate(self.axes) if axis not in self.fixed_axes]

    @property
    def dimensions(self) -> int:
        """Of the search: free axes times actions."""
        return len(self.free_axes) * self.horizon

    def clip(self, searched: Tensor) -> Tensor:
        """Nearest changes [..., H, A] inside the bounds, with what is fixed put in.

        Args:
            searched: changes on the `axes` [..., H, A]; those of `AXES` alone do not turn.
        """
        if searched.shape[-1] < len(self.axes):
            searched = torch.cat([searched, torch.zeros_like(searched[..., :1])], dim=-1)
        bounds = self.bounds.to(searched.device)
        clipped = torch.minimum(torch.maximum(searched, -bounds), bounds)
        if self.gripper.mode == "enumerated":
            clipped[..., _GRIPPER] = self._nearest_choice(clipped[..., _GRIPPER])
        for axis, value in self.fixed_axes.items():
            clipped[..., AXES.index(axis)] = torch.as_tensor(value, device=clipped.device)
        if self.closing is not None:
            clipped[..., _GRIPPER].clamp_(0.0, self.closing)
            clipped[..., 1:, _GRIPPER] = 0.0
        if self.gripper.close_from >= 0:
            clipped[..., self.gripper.close_from :, _GRIPPER] = 1.0
        if self.closedness is not None:
            clipped[..., _GRIPPER] = _within(clipped[..., _GRIPPER], self.closedness, 0.0, 1.0)
        if self.max_yaw > 0:
            # From beyond the limit it may turn back, but not farther.
            limits = min(-self.yaw_limit, self.yaw), max(self.yaw_limit, self.yaw)
            clipped[..., -1] = _within(clipped[..., -1], self.yaw, *limits)
        clipped[..., :3] = self.inside(clipped[..., :3])
        return clipped

    def inside(self, steps: Tensor) -> Tensor:
        """Steps [..., H, 3] cut so that no target of them leaves the workspace.

        From a position outside the box they lead towards it, within the bound.
        """
        if self.workspace is None or self.start is None:
            return steps
        here = self.start.to(steps.device)
        lower, upper = (
            torch.tensor(corner, dtype=torch.float32, device=steps.device)
            for corner in (self.workspace.lower, self.workspace.upper)
        )
        kept = []
        for step in steps.unbind(-2):
            target = torch.minimum(torch.maximum(here + step, lower), upper)
            kept.append((target - here).clamp(-self.max_translation, self.max_translation))
            here = here + kept[-1]
        return torch.stack(kept, dim=-2)

    def from_unit(self, points: Tensor) -> Tensor:
        """Action sequences [S, H, 7] of points [S, dimensions] of the cube -1..1."""
        searched = points.new_zeros(len(points), self.horizon, len(self.axes))
        searched[..., self.free_axes] = points.unflatten(1, (self.horizon, -1))
        return full_actions(self.clip(searched * self.bounds.to(points.device)))

    def to_unit(self, actions: Tensor) -> Tensor:
        """Points [..., dimensions] of the cube that are nearest to action sequences [..., H, 7]."""
        unit = (self.searched(actions) / self.bounds)[..., self.free_axes]
        return unit.flatten(-2).clamp(-1.0, 1.0)

    def searched(self, actions: Tensor) -> Tensor:
        """Changes on the `axes` [..., A] of actions [..., 7]."""
        return actions[..., [0, 1, 2, 6, 5][: len(self.axes)]]

    def settle(self, actions: Tensor) -> Tensor:
        """The same sequence [H, 7] with feasible changes of a searched gripper.

        Changes below the threshold become 0, and an enumerated one is rounded to opening, holding
        or closing, which the mean of sequences need not be.
        """
        settled = actions.clone()
        if "gripper" not in self.fixed_axes and self.closing is None:
            end = self.gripper.close_from if self.gripper.close_from >= 0 else None
            searched = settled[:end, 6]
            if self.gripper.mode == "enumerated":
                searched[:] = self._nearest_choice(searched)
            searched[searched.abs() < self.gripper.threshold] = 0.0
        return settled

    def _nearest_choice(self, change: Tensor) -> Tensor:
        return self.gripper.max_change * (change / self.gripper.max_change).round()


def _within(changes: Tensor, start: float, lower: float, upper: float) -> Tensor:
    """Changes [..., H] from a start, cut where their sums would leave an interval."""
    kept, here = [], torch.full_like(changes[..., 0], start)
    for change in changes.unbind(-1):
        after = (here + change).clamp(lower, upper)
        kept.append(after - here)
        here = after
    return torch.stack(kept, dim=-1)


def full_actions(searched: Tensor) -> Tensor:
    """Actions [..., 7] from x, y, z, gripper and, if there is a fifth, yaw [..., 4 or 5]."""
    actions = searched.new_zeros(*searched.shape[:-1], 7)
    actions[..., :3] = searched[..., :3]
    actions[..., 6] = searched[..., 3]
    if searched.shape[-1] > 4:
        actions[..., 5] = searched[..., 4]
    return actions


def searched_axes(actions: Tensor) -> Tensor:
    """x, y, z, gripper [..., 4] of actions [..., 7]."""
    return actions[..., [0, 1, 2, 6]]
