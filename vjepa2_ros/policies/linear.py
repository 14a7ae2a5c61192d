# SPDX-License-Identifier: Apache-2.0
"""A linear stand-in for the predictor: what planning is worth without learnt dynamics."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vjepa2_ros.planning.action_space import searched_axes
from vjepa2_ros.world_model.encoder import normalise
from vjepa2_ros.world_model.parts import SUCCESS
from vjepa2_ros.world_model.predictor import KVCache
from vjepa2_ros.world_model.world_model import WorldModel


class LinearWorldModel(WorldModel):
    """Imagines layer_norm(latent + W · change of x, y, z, gripper), one action after the other.

    It cannot imagine what depends on where the hand is: an object that comes along, or fingers that
    stop at one.

    Args:
        model: whose latents it takes; its predictor only says their geometry.
        change: maps the change [..., 4] of x, y, z, gripper to that of a latent [..., N * D].
    """

    def __init__(self, model: WorldModel, change: nn.Linear) -> None:
        super().__init__(
            model.encoder,
            model.predictor,
            model.crop_aspect,
            f"linear stand-in of {model.name}",
            model.compute_dtype,
            {name: part for name, part in model.parts.items() if name == SUCCESS},
        )
        self._change = change

    def prefill(self, latents: Tensor, states: Tensor, actions: Tensor) -> KVCache:
        """An empty cache: past frames are not used."""
        return KVCache(len(latents), [])

    @torch.no_grad()
    def rollout(
        self,
        latent: Tensor,
        state: Tensor,
        actions: Tensor,
        chunk: int | None = None,
        past: KVCache | None = None,
        every_step: bool = False,
    ) -> Tensor:
        """As `WorldModel.rollout`; `chunk` and `past` are not used.

        A gripper that is closed closes no further: its change is that of the closedness in 0 to 1.
        """
        latent, state, actions = (
            x.to(self.device, torch.float32) for x in (latent, state, actions)
        )
        closedness = state[6].expand(len(actions))
        predicted = latent.expand(len(actions), -1, -1)
        steps = []
        for action in actions.unbind(dim=1):
            change = searched_axes(action).clone()
            change[:, 3] = (closedness + action[:, 6]).clamp(0.0, 1.0) - closedness
            closedness = closedness + change[:, 3]
            predicted = normalise(predicted + self._change(change).view_as(predicted))
            steps.append(predicted)
        return torch.stack(steps, dim=1) if every_step else predicted
