# SPDX-License-Identifier: Apache-2.0
"""Cross-entropy method as V-JEPA 2-AC plans with it (arXiv 2506.09985, appendix B.2).

Sample action sequences from a normal distribution, keep the best, fit the distribution to them,
repeat; the plan is the final mean. Given the same draws it equals the reference's search number by
number, and therefore it takes nothing over from the plan before.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

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
        if draws is None:
            draws = torch.stack([self._draw(space, generator) for _ in range(settings.iterations)])
        found = search(
            lambda candidates: evaluate(objective, full_actions(candidates)),
            space.clip,
            *_initial_distribution(space, settings.initial_std),
            draws,
            settings.top_k,
            _momentum(space, settings.momentum_mean, settings.momentum_mean_gripper),
            _momentum(space, settings.momentum_std, settings.momentum_std_gripper),
            settings.mean_sample,
        )
        actions = space.settle(full_actions(found.mean[-1]))
        energy = float(evaluate(objective, actions.unsqueeze(0))[0])
        history = replace(found, actions=full_actions(found.actions)) if trace else None
        return Plan(actions, energy, self.evaluations + 1, history)

    def _draw(self, space: ActionSpace, generator: torch.Generator | None) -> Tensor:
        # One draw per action, as the reference: one larger draw gives other numbers for a seed.
        shape = (self.settings.samples, len(space.axes))
        return torch.stack([torch.randn(shape, generator=generator) for _ in range(space.horizon)])


def search(
    evaluate: Callable[[Tensor], Tensor],
    clip: Callable[[Tensor], Tensor],
    mean: Tensor,
    std: Tensor,
    draws: Tensor,
    top_k: int,
    keep_mean: Tensor | float = 0.0,
    keep_std: Tensor | float = 0.0,
    mean_sample: bool = False,
) -> Trace:
    """The method itself, on sequences of any axes.

    Args:
        evaluate: energies [S] of candidates [S, H, A].
        clip: nearest candidates inside the bounds.
        mean, std: of the first candidates [H, A].
        draws: standard normal [I, H, S, A].
        top_k: K, number of elites.
        keep_mean, keep_std: weight of the old mean and deviation [A].
        mean_sample: the first candidate of each iteration is the mean so far.

    Returns:
        All iterations, with actions [I, S, H, A].
    """
    means, stds, history = [mean], [std], []
    for noise in draws:
        candidates = (noise * stds[-1][:, None] + means[-1][:, None]).transpose(0, 1).contiguous()
        if mean_sample:
            candidates[0] = means[-1]
        candidates = clip(candidates)
        energies = evaluate(candidates)
        elites = energies.topk(top_k, largest=False).indices
        history.append((candidates, energies, elites))
        chosen = candidates[elites]
        means.append(chosen.mean(dim=0) * (1.0 - keep_mean) + means[-1] * keep_mean)
        stds.append(chosen.std(dim=0) * (1.0 - keep_std) + stds[-1] * keep_std)
    actions, all_energies, all_elites = (
        torch.stack(column) for column in zip(*history, strict=True)
    )
    return Trace(draws, actions, all_energies, all_elites, torch.stack(means), torch.stack(stds))


def _initial_distribution(space: ActionSpace, deviation: float) -> tuple[Tensor, Tensor]:
    mean = torch.zeros(space.horizon, len(space.axes))
    for axis, value in space.fixed_axes.items():
        mean[:, space.axes.index(axis)] = torch.as_tensor(value)
    std = torch.full_like(mean, space.max_translation)
    std[:, space.axes.index("gripper")] = 1.0
    if space.max_yaw > 0:
        std[:, space.axes.index("yaw")] = space.max_yaw
    if deviation > 0:
        kept = std[:, space.axes.index("gripper")].clone()
        std = torch.full_like(std, deviation)
        if space.gripper.mode == "enumerated":
            # Rounded to whole changes, a small deviation would never be one.
            std[:, space.axes.index("gripper")] = kept
    return mean, std


def _momentum(space: ActionSpace, motion: float, gripper: float) -> Tensor:
    return torch.tensor([gripper if axis == "gripper" else motion for axis in space.axes])
