# SPDX-License-Identifier: Apache-2.0
"""The parameters that name a world model, shared by the nodes that load one."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from vjepa2_ros.ros.parameters import Parameter
from vjepa2_ros.share import model_path
from vjepa2_ros.world_model.checkpoint import ATTENTIONS, DTYPES, load_world_model
from vjepa2_ros.world_model.world_model import WorldModel

MODEL_PARAMETERS = (
    Parameter("checkpoint", "reach",
              "model folder or published .pt file; a bare name means models/<name> of here"),
    Parameter("device", "auto", "where to compute: auto, cpu, cuda, cuda:1, ..."),
    Parameter("dtype", "auto", "precision of the networks", choices=("auto", *DTYPES)),
    Parameter("attention", "sdpa", "implementation of attention", choices=ATTENTIONS),
    Parameter("threads", 1, "threads of PyTorch on the CPU", minimum=1, maximum=256),
)  # fmt: skip


def load_model(settings: SimpleNamespace) -> WorldModel:
    """Load the world model that the parameters name; its errors say what to do."""
    torch.set_num_threads(settings.threads)
    path = model_path(settings.checkpoint)
    return load_world_model(path, settings.device, settings.dtype, settings.attention)
