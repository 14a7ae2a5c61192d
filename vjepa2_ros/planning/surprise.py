# SPDX-License-Identifier: Apache-2.0
"""How far what is seen is from what the world model predicted: whether something happened that the
robot did not do.

The prediction starts from the image before, and leads along the motion that was measured since, not
along the one that was planned: a robot that was held up is no surprise of the scene.
"""

from __future__ import annotations

from torch import Tensor

from vjepa2_ros.planning.objective import distance
from vjepa2_ros.world_model.poses import difference
from vjepa2_ros.world_model.predictor import KVCache
from vjepa2_ros.world_model.world_model import WorldModel


def surprise(
    world_model: WorldModel,
    before: tuple[Tensor, Tensor],
    after: tuple[Tensor, Tensor],
    past: KVCache | None = None,
) -> float:
    """Mean absolute difference of an observed latent to the predicted one, whatever the cost is.

    Args:
        world_model: predicts.
        before: latent [N, D] and state [7] of the earlier observation.
        after: the same of the present one.
        past: KV cache of the frames before the earlier one, see `WorldModel.rollout`.
    """
    (latent, state), (seen, reached) = before, after
    motion = difference(state, reached)[None, None]
    predicted = world_model.rollout(latent, state, motion, past=past)[0]
    return float(distance(predicted, seen))
