# SPDX-License-Identifier: Apache-2.0
"""The simulator in the predictor's stead: what planning is worth with predictions that are true.

What this policy fails at, no better predictor mends: it lies in the representation or the search.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vjepa2_ros.simulation.actions import carry_out
from vjepa2_ros.simulation.simulator import Simulator, Snapshot
from vjepa2_ros.world_model.parts import SUCCESS
from vjepa2_ros.world_model.predictor import KVCache
from vjepa2_ros.world_model.world_model import WorldModel


class TrueDynamics(WorldModel):
    """Carries the actions out in a copy of the cell, and encodes what its camera sees.

    Args:
        model: encodes; its predictor only says how the gripper is told.
        cell: from whose present state predictions start; it is not changed.
        image_size: side of the rendered images [px].

    Attributes:
        copy: of the cell, as the last prediction left it.
    """

    def __init__(self, model: WorldModel, cell: Simulator, image_size: int = 256) -> None:
        super().__init__(
            model.encoder,
            model.predictor,
            model.crop_aspect,
            f"true dynamics for {model.name}",
            model.compute_dtype,
            {name: part for name, part in model.parts.items() if name == SUCCESS},
        )
        self._cell = cell
        self.copy = Simulator(cell.config)
        self._image_size = image_size

    def prefill(self, latents: Tensor, states: Tensor, actions: Tensor) -> KVCache:
        """An empty cache: past frames are not used."""
        return KVCache(len(latents), [])

    def rollout(
        self,
        latent: Tensor,
        state: Tensor,
        actions: Tensor,
        chunk: int | None = None,
        past: KVCache | None = None,
        every_step: bool = False,
    ) -> Tensor:
        """As `WorldModel.rollout`, from the cell's present state; only `actions` are used."""
        snapshot = self._cell.snapshot()
        first = 0 if every_step else actions.shape[1] - 1
        steps = [
            torch.stack([self.encode(image) for image in self.images(snapshot, sequence)[first:]])
            for sequence in actions
        ]
        return torch.stack(steps) if every_step else torch.cat(steps)

    def image(self, snapshot: Snapshot, actions: Tensor) -> np.ndarray:
        """What the camera sees, uint8 RGB [size, size, 3], after actions [H, 7] from a state."""
        return self.images(snapshot, actions)[-1]

    def images(self, snapshot: Snapshot, actions: Tensor) -> list[np.ndarray]:
        """What the camera sees, uint8 RGB [size, size, 3], after each of actions [H, 7]."""
        self.copy.restore(snapshot)
        return [self.copy.render(self._image_size) for _ in carry_out(self.copy, actions)]
