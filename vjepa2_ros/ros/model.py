# SPDX-License-Identifier: Apache-2.0
"""Loads the world model that a node's settings name."""

from vjepa2_ros.world_model.checkpoint import open_world_model as load_model

__all__ = ["load_model"]
