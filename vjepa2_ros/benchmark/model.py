# SPDX-License-Identifier: Apache-2.0
"""Cost of the networks on this machine: operations, seconds, memory, and the share of the floor.

The floor of an evaluation is the time of its matrix products at the rate that a large product
reaches on this machine in the same precision.
"""

import resource
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from vjepa2_ros.benchmark.device_timing import matrix_rate, median_seconds, operations
from vjepa2_ros.planning.objective import distance
from vjepa2_ros.settings.planning import ActionSettings
from vjepa2_ros.world_model.encoder import Encoder, encoder_config
from vjepa2_ros.world_model.predictor import ActionConditionedPredictor, PredictorConfig
from vjepa2_ros.world_model.world_model import WorldModel

VIT_GIANT = {
    "crop_size": 256,
    "patch_size": 16,
    "tubelet_size": 2,
    "hidden_size": 1408,
    "num_hidden_layers": 40,
    "num_attention_heads": 22,
    "mlp_ratio": 48 / 11,
    "layer_norm_eps": 1e-6,
    "hidden_act": "gelu",
    "qkv_bias": True,
}
"""Encoder of the published model; the predictor's geometry is the default `PredictorConfig`."""


@dataclass(frozen=True)
class Cost:
    """One network on one machine.

    Attributes:
        what: name of the computation.
        candidates: computed at once.
        gflop: operations of one candidate or image [10^9].
        seconds: time of one, in a batch of `candidates`.
        floor_seconds: the same at the measured rate of matrix products.
        share: `floor_seconds` / `seconds`.
    """

    what: str
    candidates: int
    gflop: float
    seconds: float
    floor_seconds: float
    share: float


def published_size(dtype: torch.dtype, device: torch.device) -> WorldModel:
    """The published model's geometry with random weights."""
    with torch.device(device):
        encoder = Encoder(encoder_config(VIT_GIANT)).eval()
        predictor = ActionConditionedPredictor(PredictorConfig()).eval()
    model = WorldModel(encoder, predictor, name="published size, random", compute_dtype=dtype)
    if dtype != torch.float32:
        model.round_weights()
    return model


def measure(model: WorldModel, batches: Sequence[int], repeats: int) -> dict:
    """Costs of encoder and predictor with this many candidates at once; median of the repeats."""
    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(model.device)
    rate = matrix_rate(model.device, model.compute_dtype)
    random = np.random.default_rng(0)
    image = random.integers(0, 255, (256, 256, 3), np.uint8)
    state = torch.zeros(7)
    latent = model.encode(image)
    bound = ActionSettings().max_translation
    costs = [_cost("encode one image", 1, lambda: model.encode(image), rate, repeats, model)]
    for batch in batches:
        actions = torch.zeros(batch, 1, 7)
        actions[..., :3] = torch.from_numpy(random.uniform(-bound, bound, (batch, 1, 3)))

        def evaluate(actions=actions):
            return distance(model.rollout(latent, state, actions), latent).cpu()

        costs.append(_cost("predict and score", batch, evaluate, rate, repeats, model))
    return {
        "model": model.name,
        "device": _device_name(model.device),
        "dtype": str(model.compute_dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in _parameters(model)),
        "weights_gib": sum(p.numel() * p.element_size() for p in _parameters(model)) / 2**30,
        "peak_memory_gib": _peak_memory(model.device),
        "matmul_tflops": rate / 1e12,
        "costs": [asdict(cost) for cost in costs],
    }


def _cost(
    what: str, batch: int, work: Callable, rate: float, repeats: int, model: WorldModel
) -> Cost:
    each = median_seconds(work, model.device, repeats) / batch
    count = operations(work) / batch
    floor = count / rate
    return Cost(what, batch, count / 1e9, each, floor, floor / each)


def _parameters(model: WorldModel):
    yield from model.encoder.parameters()
    yield from model.predictor.parameters()


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def _peak_memory(device: torch.device) -> float:
    """Peak of allocated memory on a GPU; elsewhere of this process, loading included [GiB]."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
