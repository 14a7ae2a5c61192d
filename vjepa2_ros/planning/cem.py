# SPDX-License-Identifier: Apache-2.0
"""Cross-entropy method as V-JEPA 2-AC plans with it (arXiv 2506.09985, appendix B.2).

Sample action sequences from a normal distribution, keep the best, fit the distribution to them,
repeat; the plan is the final mean. Given the same draws it equals the reference's search number by
number, and therefore it takes nothing over from the plan before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vjepa2_ros.planning.action_space import ActionSpace, full_actions
from vjepa2_ros.planning.planner import Objective, Plan, evaluate
from vjepa2_ros.settings.planning import CEMSettings


@dataclass(frozen=True)
class Trace:
    """All iterations of a search: I iterations, S samples, K elites, H actions, A axes.

    Attributes:
        draws: [I, H, S, A] standard normal.
        actions: [I, S, H, 7] the candidates, clipped.
        energies: [I, S].
        elites: [I, K] indices into the candidates, best first.
        mean, std: [I + 1, H, A] before the first and after each iteration.
    """

    draws: Tensor
    actions: Tensor
    energies: Tensor
    elites: Tensor
    mean: Tensor
    std: Tensor


class CrossEntropyMethod:
    """A `Planner`; it evaluates the final mean as well, which the paper does not count.

    Args:
        settings: of the search; the defaults are the paper's.
    """

    def __init__(self, settings: CEMSettings | None = None):
        self.settings = settings or CEMSettings()

    @property
    def evaluations(self) -> int:
        """Candidates of all iterations."""
        return self.settings.evaluations

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
        """Search as `Planner.plan`; `previous` is not used.

        Args:
            draws: standard normal numbers [I, H, S, A] to use instead of the generator's.
            trace: keep all candidates.

        Raises:
            ValueError: the draws have another shape, or an energy is not finite.
        """
        settings = self.settings
        wanted = (settings.iterations, space.horizon, settings.samples, len(space.axes))
        if draws is not None and draws.shape != wanted:
            raise ValueError(f"draws have shape {list(draws.shape)}, wanted {list(wanted)}")
        mean, std = _initial_distribution(space)
        keep = _momentum(space, settings.momentum_mean, settings.momentum_mean_gripper)
        keep_std = _momentum(space, settings.momentum_std, settings.momentum_std_gripper)
        history = []
        for iteration in range(settings.iterations):
            noise = self._draw(space, generator) if draws is None else draws[iteration]
            sampled = (noise * std[:, None] + mean[:, None]).transpose(0, 1).contiguous()
            actions = full_actions(space.clip(sampled))
            energies = evaluate(objective, actions)
            elites = energies.topk(settings.top_k, largest=False).indices
            if trace:
                history.append((noise, actions, energies, elites, mean, std))
            chosen = space.searched(actions[elites])
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

    def _draw(self, space: ActionSpace, generator: torch.Generator | None) -> Tensor:
        # One draw per action, as the reference: one larger draw gives other numbers for a seed.
        shape = (self.settings.samples, len(space.axes))
        return torch.stack([torch.randn(shape, generator=generator) for _ in range(space.horizon)])


def _initial_distribution(space: ActionSpace) -> tuple[Tensor, Tensor]:
    mean = torch.zeros(space.horizon, len(space.axes))
    for axis, value in space.fixed_axes.items():
        mean[:, space.axes.index(axis)] = torch.as_tensor(value)
    std = torch.full_like(mean, space.max_translation)
    std[:, space.axes.index("gripper")] = 1.0
    if space.max_yaw > 0:
        std[:, space.axes.index("yaw")] = space.max_yaw
    return mean, std


def _momentum(space: ActionSpace, motion: float, gripper: float) -> Tensor:
    return torch.tensor([gripper if axis == "gripper" else motion for axis in space.axes])


def _trace(history: Sequence[tuple[Tensor, ...]], mean: Tensor, std: Tensor) -> Trace:
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
