# SPDX-License-Identifier: Apache-2.0
"""Linear read-outs: what a frozen encoder's latents say about hand, gripper, cup and box.

The truth about the objects is used here, to measure, and nowhere in training.
"""

import numpy as np
import torch

from vjepa2_ros.training.dataset import Dataset


def ridge(
    features: torch.Tensor, targets: torch.Tensor, strength: float = 1e-2
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights [F, K] and offset [K] of a ridge regression of targets [M, K] on features [M, F]."""
    centre, mean = features.mean(0), targets.mean(0)
    centred = features - centre
    gram = centred.T @ centred / len(features)
    gram.diagonal().add_(strength * gram.diagonal().mean())
    weights = torch.linalg.solve(gram, centred.T @ (targets - mean) / len(features))
    return weights, mean - centre @ weights


def read_out(latents: np.ndarray, dataset: Dataset, train: slice, test: slice) -> dict[str, float]:
    """Errors on the episodes of `test` of linear read-outs fitted on those of `train`.

    Frames in which an object has fallen from the table are left out: it is out of sight.

    Args:
        latents: [E, T, N, D] of the recording.

    Returns:
        Median distances `hand_m`, `cup_m`, `box_m` [m] and `gripper_r2`.
    """

    def gather(part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        features = torch.tensor(latents[part], dtype=torch.float32).flatten(2).flatten(0, 1)
        objects = np.asarray(dataset.objects[part]).reshape(len(features), 6)
        states = np.asarray(dataset.states[part]).reshape(len(features), 7)
        targets = np.concatenate([states[:, :3], states[:, 6:], objects], axis=1)
        seen = torch.from_numpy((objects[:, [2, 5]] > 0.0).all(axis=1))
        return features[seen], torch.from_numpy(targets)[seen]

    features, targets = gather(train)
    weights, offset = ridge(features, targets)
    features, targets = gather(test)
    error = features @ weights + offset - targets

    def median(columns: slice) -> float:
        return float(error[:, columns].norm(dim=1).median())

    spread = (targets[:, 3] - targets[:, 3].mean()).square().sum()
    return {
        "hand_m": median(slice(0, 3)),
        "gripper_r2": float(1 - error[:, 3].square().sum() / spread),
        "cup_m": median(slice(4, 7)),
        "box_m": median(slice(7, 10)),
    }
