# SPDX-License-Identifier: Apache-2.0
"""Loads the world model that a node's settings name."""

from __future__ import annotations

import torch

from vjepa2_ros.settings.model import ModelSettings
from vjepa2_ros.share import model_path
from vjepa2_ros.world_model.checkpoint import load_world_model
from vjepa2_ros.world_model.world_model import WorldModel


def load_model(settings: ModelSettings) -> WorldModel:
    """Load the world model that the settings name; its errors say what to do."""
    torch.set_num_threads(settings.threads)
    path = model_path(settings.checkpoint)
    return load_world_model(path, settings.device, settings.dtype, settings.attention)
