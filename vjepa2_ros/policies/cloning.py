# SPDX-License-Identifier: Apache-2.0
"""Goal-conditioned behaviour cloning: what the same recording teaches without a world model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vjepa2_ros.planning.action_space import AXES, ActionSpace, searched_axes
from vjepa2_ros.planning.objective import LatentDistance
from vjepa2_ros.policies.direct import DirectPlanner
from vjepa2_ros.world_model.predictor import LAYER_NORM_EPS, Block, PredictorConfig
from vjepa2_ros.world_model.rope import rotary_tables


class Cloner(nn.Module):
    """A transformer of the predictor's blocks and size over the present latent and the goal's.

    The present is a frame of a state token and its patches, the goal one of a token that is read
    out and its patches; every token attends to all.

    Args:
        config: geometry of the predictor.

    Attributes:
        mean, deviation: of the states' x, y, z, gripper [4], by which they are standardised.
        bounds: of an action's x, y, z, gripper [4], which are the unit of the output.
    """

    mean: Tensor
    deviation: Tensor
    bounds: Tensor

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__()
        width, axes = config.predictor_embed_dim, len(AXES)
        self._config = config
        self.register_buffer("mean", torch.zeros(axes))
        self.register_buffer("deviation", torch.ones(axes))
        self.register_buffer("bounds", torch.ones(axes))
        self.patches = nn.Linear(config.embed_dim, width)
        self.state = nn.Linear(axes, width)
        self.query = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(
            Block(width, config.num_heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.action = nn.Linear(width, axes)

    def forward(self, latent: Tensor, goal: Tensor, state: Tensor) -> Tensor:
        """Next action towards a goal.

        Args:
            latent: present one [B, N, D].
            goal: latent of the goal image [B, N, D].
            state: measured at the time of the present latent [B, 7].

        Returns:
            x, y, z, gripper [B, 4]; those of the recording are within `bounds`.
        """
        config = self._config
        measured = self.state((searched_axes(state) - self.mean) / self.deviation)
        tokens = torch.cat(
            [
                measured[:, None],
                self.patches(latent),
                self.query.expand(len(latent), 1, -1),
                self.patches(goal),
            ],
            dim=1,
        )
        head_dim = config.predictor_embed_dim // config.num_heads
        tables = rotary_tables(2, config.rows, config.columns, 1, head_dim, tokens.device)
        for block in self.blocks:
            tokens = block(tokens, *tables)
        query = tokens[:, 1 + latent.shape[1]]
        return self.action(self.norm(query)) * self.bounds


class Cloning(DirectPlanner):
    """Takes the action that the recorded motion most likely had on its way to the goal.

    Args:
        cloner: trained.
    """

    def __init__(self, cloner: Cloner) -> None:
        self._cloner = cloner

    @torch.no_grad()
    def decide(self, objective: LatentDistance, space: ActionSpace) -> Tensor:
        """See `DirectPlanner`; actions after the first one are zero."""
        present = objective.latent[None], objective.goal[None], objective.state[None]
        actions = torch.zeros(space.horizon, len(AXES))
        actions[0] = self._cloner(*present)[0].cpu()
        return actions
