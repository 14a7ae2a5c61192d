# SPDX-License-Identifier: Apache-2.0
"""Cross-entropy method over end-effector actions (arXiv 2506.09985, appendix B.2).

Sample action sequences from a normal distribution, keep the best, fit the
distribution to them, repeat; the plan is the final mean.  Translation and
gripper are searched, rotation is not.  The optimiser knows an objective (action
sequences to energies) and its bounds, nothing of models or robots.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

Objective = Callable[[Tensor], Tensor]

AXES = ("x", "y", "z", "gripper")
_GRIPPER = AXES.index("gripper")


@dataclass(frozen=True)
class CEMConfig:
    """Settings; the defaults are the paper's.  Raises ValueError on values that make no sense.

    samples, iterations, top_k: candidates per iteration, iterations, elites (at least 2).
    horizon: actions per candidate.
    max_translation: bound of each of x, y, z per action, m.
    max_gripper: bound of the change of closedness per action.
    gripper_threshold: a smaller final change of closedness becomes 0.
    momentum_*: weight of the old mean or deviation against the elites', 0 to below 1.
    fixed_axes: axis ("x", "y", "z", "gripper") to the value it is held at.
    close_gripper_from: candidates close the gripper fully from this action on (0 = the first).
    """

    samples: int = 800
    iterations: int = 10
    top_k: int = 10
    horizon: int = 1
    max_translation: float = 0.075
    max_gripper: float = 0.75
    gripper_threshold: float = 0.25
    momentum_mean: float = 0.0
    momentum_mean_gripper: float = 0.0
    momentum_std: float = 0.0
    momentum_std_gripper: float = 0.0
    fixed_axes: Mapping[str, float] = field(default_factory=dict)
    close_gripper_from: int | None = None

    def __post_init__(self):
        for name, least in (
            ("iterations", 1),
            ("top_k", 2),
            ("horizon", 1),
            ("samples", self.top_k),
        ):
            self._require(name, getattr(self, name) >= least, f"at least {least}")
        for name in ("max_translation", "max_gripper"):
            self._require(name, 0 < getattr(self, name) < float("inf"), "a positive number")
        self._require("gripper_threshold", self.gripper_threshold >= 0, "0 or more")
        for momentum in fields(self):
            if momentum.name.startswith("momentum"):
                self._require(
                    momentum.name, 0 <= getattr(self, momentum.name) < 1, "at least 0 and below 1"
                )
        self._require(
            "fixed_axes",
            set(self.fixed_axes) <= set(AXES),
            f"a mapping of some of {', '.join(AXES)}",
        )
        self._require(
            "fixed_axes", all(abs(v) < float("inf") for v in self.fixed_axes.values()), "finite"
        )
        first = self.close_gripper_from
        self._require(
            "close_gripper_from", first is None or first >= 0, "the number of an action, or None"
        )

    def _require(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise ValueError(f"{name} must be {wanted}, got {getattr(self, name)}")


@dataclass(frozen=True)
class Trace:
    """All that happened: I iterations, S samples, K elites, H actions, 4 axes x, y, z, gripper."""

    draws: Tensor  # [I, H, S, 4] standard normal
    actions: Tensor  # [I, S, H, 7] the candidates, clipped
    energies: Tensor  # [I, S]
    elites: Tensor  # [I, K] indices into the candidates, best first
    mean: Tensor  # [I + 1, H, 4] before the first and after each iteration
    std: Tensor  # [I + 1, H, 4]


@dataclass(frozen=True)
class Plan:
    """actions [H, 7] float32 on the CPU and the objective's value at exactly these actions."""

    actions: Tensor
    energy: float
    trace: Trace | None = None


class CrossEntropyMethod:
    def __init__(self, config: CEMConfig | None = None):
        self.config = config or CEMConfig()

    def plan(
        self,
        objective: Objective,
        generator: torch.Generator | None = None,
        draws: Tensor | None = None,
        trace: bool = False,
    ) -> Plan:
        """Search the action sequence of least energy.

        objective: energies [S] of action sequences [S, H, 7], lower is better.
        generator: source of the samples (None: PyTorch's own).
        draws: standard normal numbers [I, H, S, 4] to use instead.
        trace: keep all candidates.
        Raises ValueError on draws of another shape and on energies that are not finite.
        """
        config = self.config
        wanted = (config.iterations, config.horizon, config.samples, len(AXES))
        if draws is not None and draws.shape != wanted:
            raise ValueError(f"draws have shape {list(draws.shape)}, wanted {list(wanted)}")
        mean, std = self._initial_distribution()
        keep = self._momentum(config.momentum_mean, config.momentum_mean_gripper)
        keep_std = self._momentum(config.momentum_std, config.momentum_std_gripper)
        history = []
        for iteration in range(config.iterations):
            noise = self._draw(generator) if draws is None else draws[iteration]
            actions = self._candidates(noise, mean, std)
            energies = self._evaluate(objective, actions)
            elites = energies.topk(config.top_k, largest=False).indices
            if trace:
                history.append((noise, actions, energies, elites, mean, std))
            chosen = searched_axes(actions[elites])
            mean = chosen.mean(dim=0) * (1.0 - keep) + mean * keep
            std = chosen.std(dim=0) * (1.0 - keep_std) + std * keep_std

        actions = full_actions(mean)
        gripper = actions[:, -1]
        gripper[gripper.abs() < config.gripper_threshold] = 0.0
        energy = float(self._evaluate(objective, actions.unsqueeze(0))[0])
        return Plan(actions, energy, _trace(history, mean, std) if trace else None)

    def _initial_distribution(self) -> tuple[Tensor, Tensor]:
        mean = torch.zeros(self.config.horizon, len(AXES))
        for axis, value in self.config.fixed_axes.items():
            mean[:, AXES.index(axis)] = value
        std = torch.full_like(mean, self.config.max_translation)
        std[:, _GRIPPER] = 1.0
        return mean, std

    def _draw(self, generator: torch.Generator | None) -> Tensor:
        # One draw per action, as the reference: one larger draw gives other numbers for a seed.
        shape = (self.config.samples, len(AXES))
        return torch.stack(
            [torch.randn(shape, generator=generator) for _ in range(self.config.horizon)]
        )

    def _candidates(self, noise: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Clipped action sequences [S, H, 7] from standard normal noise [H, S, 4]."""
        config = self.config
        sampled = (noise * std[:, None] + mean[:, None]).transpose(0, 1).contiguous()
        sampled[..., :_GRIPPER].clamp_(-config.max_translation, config.max_translation)
        sampled[..., _GRIPPER].clamp_(-config.max_gripper, config.max_gripper)
        for axis, value in config.fixed_axes.items():
            sampled[..., AXES.index(axis)] = value
        if config.close_gripper_from is not None:
            sampled[:, config.close_gripper_from :, _GRIPPER] = 1.0
        return full_actions(sampled)

    def _evaluate(self, objective: Objective, actions: Tensor) -> Tensor:
        energies = objective(actions)
        if not energies.isfinite().all():
            count = int((~energies.isfinite()).sum())
            raise ValueError(
                f"{count} of {len(energies)} energies are not finite: no plan can be trusted"
            )
        return energies

    @staticmethod
    def _momentum(translation: float, gripper: float) -> Tensor:
        return torch.tensor([translation, translation, translation, gripper])


def full_actions(searched: Tensor) -> Tensor:
    """Actions [..., 7] without rotation from x, y, z, gripper [..., 4]."""
    actions = searched.new_zeros(*searched.shape[:-1], 7)
    actions[..., :3] = searched[..., :3]
    actions[..., 6] = searched[..., 3]
    return actions


def searched_axes(actions: Tensor) -> Tensor:
    """x, y, z, gripper [..., 4] of actions [..., 7]."""
    return actions[..., [0, 1, 2, 6]]


def _trace(history: list[tuple[Tensor, ...]], mean: Tensor, std: Tensor) -> Trace:
    draws, actions, energies, elites, means, stds = (
        torch.stack(column) for column in zip(*history, strict=True)
    )
    return Trace(
        draws,
        actions,
        energies,
        elites,
        torch.cat([means, mean[None]]),
        torch.cat([stds, std[None]]),
    )
