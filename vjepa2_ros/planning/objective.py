# SPDX-License-Identifier: Apache-2.0
"""What a plan is judged by: the distance of its imagined latent to the goal's."""

import torch
from torch import Tensor

from vjepa2_ros.world_model.predictor import KVCache
from vjepa2_ros.world_model.world_model import WorldModel

COSTS = ("l1", "l2")


def distance(latent: Tensor, goal: Tensor, cost: str = "l1") -> Tensor:
    """Energy [...] of latents [..., N, D] against a goal [N, D], a mean over patches and channels.

    "l1" is the mean absolute difference (the paper's), "l2" the mean squared one.
    """
    return magnitude((latent - goal).flatten(-2), cost)


def magnitude(difference: Tensor, cost: str = "l1") -> Tensor:
    """Energy [...] of differences to the goal [..., M], as `distance`."""
    if cost == "l1":
        return difference.abs().mean(-1)
    if cost == "l2":
        return difference.square().mean(-1)
    raise ValueError(f"unknown cost {cost!r}: use {' or '.join(COSTS)}")


class LatentDistance:
    """`LatentObjective` of a planner: energies of action sequences from one state towards one goal.

    latent [N, D], state [7], past and goal [N, D] as in `WorldModel.rollout`; only the last
    imagined latent counts.  At most `chunk` sequences are imagined at once
    (None: all), which bounds memory on small GPUs.
    """

    def __init__(
        self,
        world_model: WorldModel,
        latent: Tensor,
        state: Tensor,
        goal: Tensor,
        cost: str = "l1",
        chunk: int | None = None,
        past: KVCache | None = None,
    ):
        if cost not in COSTS:
            raise ValueError(f"unknown cost {cost!r}: use {' or '.join(COSTS)}")
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunk must be at least 1, got {chunk}")
        if goal.shape != latent.shape:
            raise ValueError(f"goal has shape {list(goal.shape)}, the latent {list(latent.shape)}")
        self.world_model = world_model
        self.latent = latent.to(world_model.device)
        self.state = state.to(world_model.device)
        self.goal = goal.to(world_model.device)
        self.cost = cost
        self.chunk = chunk
        self.past = past

    def __call__(self, actions: Tensor) -> Tensor:
        """Energies [S] float32 on the CPU of action sequences [S, H, 7]."""
        # At once: each transfer makes the host wait.
        parts = actions.to(self.latent.device).split(self.chunk or len(actions))
        return torch.cat([self.energies(self.differences(part)) for part in parts]).cpu()

    def differences(self, actions: Tensor) -> Tensor:
        """Imagined latents less the goal's [S, N * D] of sequences [S, H, 7], on the device."""
        imagined = self.world_model.rollout(self.latent, self.state, actions, self.chunk, self.past)
        return imagined.sub_(self.goal).flatten(1)

    def energies(self, differences: Tensor) -> Tensor:
        """Energies [S] of differences [S, N * D]."""
        return magnitude(differences, self.cost)
