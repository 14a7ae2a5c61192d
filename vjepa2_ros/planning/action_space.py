# SPDX-License-Identifier: Apache-2.0
"""What a planner may choose from: sequences of bounded end-effector actions.

Translation and gripper are searched, rotation is not (arXiv 2506.09985, appendix B.2).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

AXES = ("x", "y", "z", "gripper")
GRIPPERS = ("sampled", "enumerated")
_GRIPPER = AXES.index("gripper")


@dataclass(frozen=True)
class Workspace:
    """A box that no target leaves.  position: where a sequence starts [3]. lower, upper: corners
    [3]; float32, in m, base frame."""

    position: Tensor
    lower: Tensor
    upper: Tensor

    def inside(self, steps: Tensor, bound: float) -> Tensor:
        """Steps [..., H, 3] cut so that no target of them leaves the box.

        bound: of a step on each axis. Who stands outside is led towards the box within it.
        """
        kept = []
        here = self.position.to(steps.device)
        lower, upper = self.lower.to(steps.device), self.upper.to(steps.device)
        for step in steps.unbind(-2):
            target = torch.minimum(torch.maximum(here + step, lower), upper)
            kept.append((target - here).clamp(-bound, bound))
            here = here + kept[-1]
        return torch.stack(kept, dim=-2)


@dataclass(frozen=True)
class ActionSpace:
    """Bounds and what is held fixed; the defaults are the paper's.

    horizon: actions in a sequence.
    max_translation: bound of each of x, y, z per action, m.
    max_gripper: bound of the change of closedness per action.
    gripper: "sampled" as a number like any other axis, or "enumerated": each action opens the
        gripper by the bound, holds it, or closes it by the bound.
    gripper_threshold: a smaller change of closedness in a plan becomes 0.
    fixed_axes: axis ("x", "y", "z", "gripper") to the value it is held at, or to one per action.
    close_gripper_from: sequences close the gripper fully from this action on (0 = the first).
    workspace: box that no target leaves (None: no box).
    Raises ValueError on values that make no sense.
    """

    horizon: int = 1
    max_translation: float = 0.075
    max_gripper: float = 0.75
    gripper: str = "sampled"
    gripper_threshold: float = 0.25
    fixed_axes: Mapping[str, float | Sequence[float]] = field(default_factory=dict)
    close_gripper_from: int | None = None
    workspace: Workspace | None = None

    def __post_init__(self):
        if self.horizon < 1:
            raise ValueError(f"horizon must be at least 1, got {self.horizon}")
        for name in ("max_translation", "max_gripper"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)}")
        if self.gripper not in GRIPPERS:
            raise ValueError(f"unknown gripper {self.gripper!r}: use {' or '.join(GRIPPERS)}")
        if not self.gripper_threshold >= 0:
            raise ValueError(f"gripper_threshold must be 0 or more, got {self.gripper_threshold}")
        if self.gripper_threshold > self.max_gripper and "gripper" not in self.fixed_axes:
            raise ValueError(
                f"with max_gripper {self.max_gripper} below gripper_threshold"
                f" {self.gripper_threshold} the gripper would never move: fix it or change one"
            )
        if not set(self.fixed_axes) <= set(AXES):
            raise ValueError(
                f"fixed_axes must be a mapping of some of {', '.join(AXES)}, got {self.fixed_axes}"
            )
        if not all(np.isfinite(value).all() for value in self.fixed_axes.values()):
            raise ValueError(f"fixed_axes must be finite, got {self.fixed_axes}")
        first = self.close_gripper_from
        if first is not None and first < 0:
            raise ValueError(
                f"close_gripper_from must be the number of an action, or None, got {first}"
            )

    @property
    def bounds(self) -> Tensor:
        """Largest x, y, z, gripper [4] of an action."""
        return torch.tensor([self.max_translation] * 3 + [self.max_gripper])

    @property
    def free_axes(self) -> list[int]:
        """Numbers of the axes that are searched, in the order of `AXES`."""
        return [number for number, axis in enumerate(AXES) if axis not in self.fixed_axes]

    @property
    def dimensions(self) -> int:
        """Of the search: free axes times actions."""
        return len(self.free_axes) * self.horizon

    def clip(self, searched: Tensor) -> Tensor:
        """Nearest x, y, z, gripper [..., H, 4] inside the bounds, with what is fixed put in."""
        bounds = self.bounds.to(searched.device)
        clipped = torch.minimum(torch.maximum(searched, -bounds), bounds)
        if self.gripper == "enumerated":
            clipped[..., _GRIPPER] = self._nearest_choice(clipped[..., _GRIPPER])
        for axis, value in self.fixed_axes.items():
            clipped[..., AXES.index(axis)] = torch.as_tensor(value, device=clipped.device)
        if self.close_gripper_from is not None:
            clipped[..., self.close_gripper_from :, _GRIPPER] = 1.0
        if self.workspace is not None:
            clipped[..., :3] = self.workspace.inside(clipped[..., :3], self.max_translation)
        return clipped

    def from_unit(self, points: Tensor) -> Tensor:
        """Action sequences [S, H, 7] of points [S, dimensions] of the cube -1..1."""
        searched = points.new_zeros(len(points), self.horizon, len(AXES))
        searched[..., self.free_axes] = points.unflatten(1, (self.horizon, -1))
        return full_actions(self.clip(searched * self.bounds.to(points.device)))

    def to_unit(self, actions: Tensor) -> Tensor:
        """Points [..., dimensions] of the cube that are nearest to action sequences [..., H, 7]."""
        unit = (searched_axes(actions) / self.bounds)[..., self.free_axes]
        return unit.flatten(-2).clamp(-1.0, 1.0)

    def settle(self, actions: Tensor) -> Tensor:
        """The same sequence [H, 7] with the gripper doing what a gripper can.

        Where it was searched, changes below the threshold are taken out, and an enumerated one
        does one of its three things: a mean of sequences does not.
        """
        settled = actions.clone()
        if "gripper" not in self.fixed_axes:
            searched = settled[: self.close_gripper_from, 6]
            if self.gripper == "enumerated":
                searched[:] = self._nearest_choice(searched)
            searched[searched.abs() < self.gripper_threshold] = 0.0
        return settled

    def _nearest_choice(self, change: Tensor) -> Tensor:
        return self.max_gripper * (change / self.max_gripper).round()


def full_actions(searched: Tensor) -> Tensor:
    """Actions [..., 7] without rotation from x, y, z, gripper [..., 4]."""
    actions = searched.new_zeros(*searched.shape[:-1], 7)
    actions[..., :3] = searched[..., :3]
    actions[..., 6] = searched[..., 3]
    return actions


def searched_axes(actions: Tensor) -> Tensor:
    """x, y, z, gripper [..., 4] of actions [..., 7]."""
    return actions[..., [0, 1, 2, 6]]
