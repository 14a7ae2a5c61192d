# SPDX-License-Identifier: Apache-2.0
"""Training of the behaviour cloning on goals that the recorded motion reached later on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vjepa2_ros.planning.action_space import searched_axes
from vjepa2_ros.policies.cloning import Cloner
from vjepa2_ros.training.loop import LoopConfig, train
from vjepa2_ros.world_model.poses import difference

LONGEST = 5
"""Most steps from a frame to its goal."""


@dataclass(frozen=True)
class Steps:
    """Steps of recorded motion, each with a goal that it reached later on.

    Attributes:
        latents: [B, N, D] float32.
        goals: latents [B, N, D] float32.
        states: [B, 7].
        actions: x, y, z, gripper [B, 4] of the step that followed, within bounds.
    """

    latents: Tensor
    goals: Tensor
    states: Tensor
    actions: Tensor


def draw_steps(
    latents: np.ndarray, states: np.ndarray, bounds: Tensor, count: int, random: np.random.Generator
) -> Steps:
    """Draw steps of recorded motion with goals 1 to `LONGEST` steps later in their episodes.

    Args:
        latents: of the recording [E, T, N, D], T at least 2.
        states: measured [E, T, 7].
        bounds: to which actions x, y, z, gripper [4] are clipped.
        count: of steps B.
        random: decides everything.
    """
    episodes, length = states.shape[:2]
    episode = random.integers(0, episodes, count)
    step = random.integers(0, length - 1, count)
    goal = step + random.integers(1, np.minimum(LONGEST, length - 1 - step) + 1)
    here, after = (torch.from_numpy(states[episode, at]) for at in (step, step + 1))
    actions = searched_axes(difference(here, after))
    return Steps(
        torch.from_numpy(latents[episode, step]).float(),
        torch.from_numpy(latents[episode, goal]).float(),
        here,
        torch.minimum(torch.maximum(actions, -bounds), bounds),
    )


def cloning_loss(cloner: Cloner, steps: Steps) -> Tensor:
    """Mean absolute error of the actions, as a share of their bounds."""
    device = cloner.bounds.device
    actions = cloner(steps.latents.to(device), steps.goals.to(device), steps.states.to(device))
    return functional.l1_loss(actions / cloner.bounds, steps.actions.to(device) / cloner.bounds)


def train_cloner(
    cloner: Cloner,
    latents: np.ndarray,
    states: np.ndarray,
    bounds: Tensor,
    batch: int,
    loop: LoopConfig,
    folder: Path,
) -> None:
    """Train in place and on the device of the module, or resume doing so.

    Args:
        cloner: from its present weights; its buffers are set.
        latents: of the recording [E, T, N, D].
        states: measured [E, T, 7].
        bounds: of an action's x, y, z, gripper [4].
        batch: steps of motion per iteration.
        loop: length, learning rate and seed.
        folder: for checkpoints, history and loss curves.

    Raises:
        OSError: a file cannot be written.
    """
    seen = searched_axes(torch.from_numpy(np.array(states))).flatten(0, 1)
    cloner.mean.copy_(seen.mean(dim=0))
    cloner.deviation.copy_(seen.std(dim=0).clamp_min(1e-3))
    cloner.bounds.copy_(bounds)

    def losses(random: np.random.Generator, progress: float) -> dict[str, Tensor]:
        steps = draw_steps(latents, states, bounds, batch, random)
        return {"loss": cloning_loss(cloner, steps)}

    train("cloning", cloner, losses, loop, folder)
    cloner.eval()
