# SPDX-License-Identifier: Apache-2.0
"""How well scores of classes fit labels."""

from __future__ import annotations

import torch
from torch import Tensor


def class_mean_recall(scores: Tensor, labels: Tensor, k: int = 1) -> float:
    """Recall at k of each class, as a mean over the classes that occur: rare ones count as much.

    The metric of Epic-Kitchens-100 with k = 5.

    Args:
        scores: [n, classes].
        labels: int64 [n].
        k: how many of the best classes may hold the label.
    """
    hits = _hits(scores, labels, k).double()
    occurring = labels.unique()
    return torch.stack([hits[labels == label].mean() for label in occurring]).mean().item()


def accuracy(scores: Tensor, labels: Tensor, k: int = 1) -> float:
    """Share of labels that are among the k best classes; arguments as above."""
    return _hits(scores, labels, k).double().mean().item()


def _hits(scores: Tensor, labels: Tensor, k: int) -> Tensor:
    """Whether each label is among the k best classes, bool [n]."""
    best = scores.topk(min(k, scores.shape[1]), dim=1).indices
    return (best == labels[:, None]).any(dim=1)
