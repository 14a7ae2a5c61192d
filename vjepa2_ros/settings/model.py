# SPDX-License-Identifier: Apache-2.0
"""Which world model is loaded, and how it is computed."""

from __future__ import annotations

from dataclasses import dataclass

from vjepa2_ros.settings.declaration import Settings, setting

ATTENTIONS = ("sdpa", "eager")
DTYPES = ("auto", "float32", "bfloat16")
CROPS = ("checkpoint", "training", "square", "whole")


@dataclass(frozen=True)
class Computation(Settings):
    """How networks are computed.

    Attributes:
        device: `auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:1`, …
        dtype: `auto` is float32 on a CPU and bfloat16 on a GPU.
        attention: `sdpa` (PyTorch's fused kernels) or `eager`.
        threads: of PyTorch on the CPU.
    """

    device: str = setting(
        "auto", "where to compute: auto (a GPU if there is one), cpu, cuda or cuda:N",
        shared="common",
    )  # fmt: skip
    dtype: str = setting(
        "auto",
        "precision of the networks; auto is float32 on a CPU and bfloat16 on a GPU",
        choices=DTYPES,
        shared="common",
    )
    attention: str = setting(
        "sdpa", "implementation of attention: sdpa (fused) or eager", choices=ATTENTIONS,
        shared="common",
    )  # fmt: skip
    threads: int = setting(
        1, "threads of PyTorch on the CPU; one leaves the other cores to the other nodes",
        "", 1, 256, shared="common",
    )  # fmt: skip

@dataclass(frozen=True)
class ModelSettings(Computation):
    """The world model of encoder and planner, which must be the same in both.

    Attributes:
        checkpoint: model folder, published `.pt` file, or the name of a folder under `models/`.
        crop: part of an image that the model sees: what the `checkpoint` says, the `training`'s
            (aspect 1.35), a centred `square` or the `whole` image; latents of different crops are
            not compared.
    """

    checkpoint: str = setting(
        "tabletop",
        "world model: a name under models/, a folder (config.json + model.safetensors), or a .pt "
        "file in the published layout",
        shared="same",
    )
    crop: str = setting(
        "checkpoint",
        "part of an image that the model sees: as the checkpoint says, of the training (up to "
        "1.35 times as wide as high), a centred square, or the whole image",
        choices=CROPS, shared="same",
    )  # fmt: skip
