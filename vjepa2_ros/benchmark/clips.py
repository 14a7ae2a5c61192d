# SPDX-License-Identifier: Apache-2.0
"""What a clip costs in the published encoders, with random weights: no file is needed."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context

import torch

from vjepa2_ros.benchmark.device_timing import matrix_rate, median_seconds, operations
from vjepa2_ros.interrupts import end_with_parent
from vjepa2_ros.world_model.encoder import Encoder, encoder_config

FRAMES = 64
"""Frames of a clip of the published size."""
_TUBELET = 2
_COMMON = {
    "patch_size": 16,
    "tubelet_size": _TUBELET,
    "layer_norm_eps": 1e-6,
    "hidden_act": "gelu",
    "qkv_bias": True,
}


def _geometry(size: int, width: int, layers: int, heads: int, hidden: int) -> dict:
    return _COMMON | {
        "crop_size": size,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "mlp_ratio": hidden / width,
    }


GEOMETRIES = {
    "vitl": _geometry(256, 1024, 24, 16, 4096),
    "vith": _geometry(256, 1280, 32, 16, 5120),
    "vitg": _geometry(256, 1408, 40, 22, 6144),
    "vitg-384": _geometry(384, 1408, 40, 22, 6144),
}
"""The published encoders by the names of their files; fields of `encoder.encoder_config`."""


@dataclass(frozen=True)
class ClipCost:
    """One encoder on one clip.

    Attributes:
        encoder: one of `GEOMETRIES`.
        frames: of the clip.
        tokens: of the clip.
        parameters: of the encoder.
        gflop: operations of a clip [10^9], attention among them.
        seconds: time of a clip.
        share: of the rate of a large matrix product in the same precision.
        peak_memory_gib: of the process, weights and PyTorch included; on a GPU what it allocated.
    """

    encoder: str
    frames: int
    tokens: int
    parameters: int
    gflop: float
    seconds: float
    share: float
    peak_memory_gib: float


def measure(
    names: Sequence[str],
    frames: int,
    device: torch.device,
    dtype: torch.dtype,
    repeats: int,
    attention: str = "sdpa",
) -> dict:
    """Costs of a clip of so many frames in each of these encoders.

    Each one runs in a process of its own, so that its memory is its own.

    Raises:
        ValueError: a name is unknown, a clip is shorter than a tubelet, or too long for the memory.
    """
    if unknown := sorted(set(names) - set(GEOMETRIES)):
        raise ValueError(f"unknown encoder {', '.join(unknown)}: there are {', '.join(GEOMETRIES)}")
    if frames < _TUBELET:
        raise ValueError(f"a clip needs at least {_TUBELET} frames, not {frames}")
    threads = torch.get_num_threads()
    costs = []
    for name in names:
        with ProcessPoolExecutor(1, get_context("spawn"), end_with_parent) as pool:
            job = pool.submit(_cost, name, frames, str(device), dtype, repeats, threads, attention)
            try:
                costs.append(job.result())
            except (BrokenProcessPool, torch.OutOfMemoryError) as error:
                raise ValueError(
                    f"{name} on a clip of {frames} frames did not come to its end, most likely for "
                    "want of memory: give fewer --frames, or leave it out"
                ) from error
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "dtype": str(dtype).removeprefix("torch."),
        "threads": threads,
        "matmul_tflops": matrix_rate(device, dtype) / 1e12,
        "costs": [asdict(cost) for cost in costs],
    }


def count(name: str, frames: int) -> int:
    """Operations of a clip, counted without memory."""
    encoder, clip = _build(name, frames, torch.device("meta"))
    with torch.no_grad():
        return operations(lambda: encoder.features(clip))


def _build(
    name: str, frames: int, device: torch.device, attention: str = "sdpa"
) -> tuple[Encoder, torch.Tensor]:
    """An encoder with random weights, and a clip [1, T, 3, H, W] of zeros."""
    fields = GEOMETRIES[name]
    with torch.device(device):
        encoder = Encoder(encoder_config(fields, attention)).eval()
        clip = torch.zeros(1, frames, 3, fields["crop_size"], fields["crop_size"])
    return encoder, clip


@torch.no_grad()
def _cost(
    name: str,
    frames: int,
    device_name: str,
    dtype: torch.dtype,
    repeats: int,
    threads: int,
    attention: str,
) -> ClipCost:
    torch.set_num_threads(threads)
    device = torch.device(device_name)
    encoder, clip = _build(name, frames, device, attention)

    def encode() -> torch.Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return encoder.features(clip)

    seconds = median_seconds(encode, device, repeats)
    flop = count(name, frames)
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(device) / 2**30
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return ClipCost(
        name,
        frames,
        frames // _TUBELET * encoder.rows * encoder.columns,
        sum(parameter.numel() for parameter in encoder.parameters()),
        flop / 1e9,
        seconds,
        flop / seconds / matrix_rate(device, dtype),
        memory,
    )
