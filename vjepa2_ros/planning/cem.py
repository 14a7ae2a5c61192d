# SPDX-License-Identifier: Apache-2.0
"""Cross-entropy method as V-JEPA 2-AC plans with it (arXiv 2506.09985, appendix B.2).

Sample action sequences from a normal distribution, keep the best, fit the distribution to them,
repeat; the plan is the final mean. Given the same draws it is the reference's search, number by
number, so it takes nothing over from the plan before.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from vjepa2_ros.planning.action_space import AXES, ActionSpace, full_actions, searched_axes
from vjepa2_ros.planning.planner import Objective, Plan, evaluate


@dataclass(frozen=True)
class CEMConfig:
    """Settings; the defaults are the paper's.  Raises ValueError on values that make no sense.

    samples, iterations, top_k: candidates per iteration, iterations, elites (at least 2).
    momentum_*: weight of the old mean or deviation against the elites', 0 to below 1.
    """

    samples: int = 800
    iterations: int = 10
    top_k: int = 10
    momentum_mean: float = 0.0
    momentum_mean_gripper: float = 0.0
    momentum_std: float = 0.0
    momentum_std_gripper: float = 0.0

    def __post_init__(self):
        for name, least in (("iterations", 1), ("top_k", 2), ("samples", self.top_k)):
            self._require(name, getattr(self, name) >= least, f"at least {least}")
        for momentum in fields(self):
            if momentum.name.startswith("momentum"):
                self._require(
                    momentum.name, 0 <= getattr(self, momentum.name) < 1, "at least 0 and below 1"
                )

    def _require(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise ValueError(f"{name} must be {wanted}, got {getattr(self, name)}")

    @classmethod
    def of(cls, evaluations: int) -> "CEMConfig":
        """The paper's ten iterations from 800 evaluations on, five below; an eighth are elites."""
        iterations = 10 if evaluations >= 800 else 5
        samples = max(2, evaluations // iterations)
        return cls(samples, iterations, top_k=min(10, max(2, samples // 8)))


@dataclass(frozen=True)
class Trace:
    """All that happened: I iterations, S samples, K elites, H actions, 4 axes x, y, z, gripper."""

    draws: Tensor  # [I, H, S, 4] standard normal
    actions: Tensor  # [I, S, H, 7] the candidates, clipped
    energies: Tensor  # [I, S]
    elites: Tensor  # [I, K] indices into the candidates, best first
    mean: Tensor  # [I + 1, H, 4] before the first and after each iteration
    std: Tensor  # [I + 1, H, 4]


class CrossEntropyMethod:
    """A `Planner`; asks about the final mean as well, which the paper does not count."""

    def __init__(self, config: CEMConfig | None = None):
        self.config = config or CEMConfig()

    @property
    def evaluations(self) -> int:
        return self.config.samples * self.config.iterations

    def plan(
        self,
        objective: Objective,
        space: ActionSpace,
        generator: torch.Generator | None = None,
        previous: Tensor | None = None,
        *,
        draws: Tensor | None = None,
        trace: bool = False,
    ) -> Plan:
        """Search as `Planner.plan`; `previous` is left out of account.

        draws: standard normal numbers [I, H, S, 4] to use instead of the generator's.
        trace: keep all candidates.
        Raises ValueError on draws of another shape and on energies that are not finite.
        """
        config = self.config
        wanted = (config.iterations, space.horizon, config.samples, len(AXES))
        if draws is not None and draws.shape != wanted:
            raise ValueError(f"draws have shape {list(draws.shape)}, wanted {list(wanted)}")
        mean, std = _initial_distribution(space)
        keep = _momentum(config.momentum_mean, config.momentum_mean_gripper)
        keep_std = _momentum(config.momentum_std, config.momentum_std_gripper)
        history = []
        for iteration in range(config.iterations):
            noise = self._draw(space.horizon, generator) if draws is None else draws[iteration]
            sampled = (noise * std[:, None] + mean[:, None]).transpose(0, 1).contiguous()
            actions = full_actions(space.clip(sampled))
            energies = evaluate(objective, actions)
            elites = energies.topk(config.top_k, largest=False).indices
            if trace:
                history.append((noise, actions, energies, elites, mean, std))
            chosen = searched_axes(actions[elites])
            mean = chosen.mean(dim=0) * (1.0 - keep) + mean * keep
            std = chosen.std(dim=0) * (1.0 - keep_std) + std * keep_std

        actions = space.settle(full_actions(mean))
        energy = float(evaluate(objective, actions.unsqueeze(0))[0])
        return Plan(
            actions,
            energy,
            self.evaluations + 1,
            _trace(history, mean, std) if trace else None,
        )

    def _draw(self, horizon: int, generator: torch.Generator | None) -> Tensor:
        # One draw per action, as the reference: one larger draw gives other numbers for a seed.
        shape = (self.config.samples, len(AXES))
        return torch.stack([torch.randn(shape, generator=generator) for _ in range(horizon)])


def _initial_distribution(space: ActionSpace) -> tuple[Tensor, Tensor]:
    mean = torch.zeros(space.horizon, len(AXES))
    for axis, value in space.fixed_axes.items():
        mean[:, AXES.index(axis)] = torch.as_tensor(value)
    std = torch.full_like(mean, space.max_translation)
    std[:, AXES.index("gripper")] = 1.0
    return mean, std


def _momentum(translation: float, gripper: float) -> Tensor:
    return torch.tensor([translation, translation, translation, gripper])


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
