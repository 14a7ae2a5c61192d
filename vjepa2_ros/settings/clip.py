# SPDX-License-Identifier: Apache-2.0
"""Settings of clip_node: which clips of the camera are encoded, and how they are named."""

from __future__ import annotations

from dataclasses import dataclass

from vjepa2_ros.settings.declaration import Settings, inline, setting
from vjepa2_ros.settings.model import Computation
from vjepa2_ros.settings.transport import ImageSubscription

PARTS = ("target_encoder", "encoder")
RESIZES = ("opencv", "antialias")


@dataclass(frozen=True)
class ClipNodeSettings(Settings):
    """The newest images of the camera as a clip: its embedding, and labels with a probe."""

    computation: Computation = inline(Computation)
    subscription: ImageSubscription = inline(ImageSubscription)
    encoder: str = setting(
        "tabletop",
        "encoder of clips: a published file (vitl.pt, vitg-384.pt, …), a folder of transformers, "
        "or a model of ours, also by its name under models/ (which was not made for video)",
    )
    part: str = setting(
        "target_encoder",
        "which encoder of a published file: target_encoder as in the published evaluations, or "
        "encoder",
        choices=PARTS,
    )
    size: int = setting(
        0, "side of the input; 0 = the checkpoint's, 384 for files named so, else 256",
        "px", 0, 1024,
    )  # fmt: skip
    frames: int = setting(16, "of a clip", "", 2, 256)
    frame_rate: float = setting(
        7.5, "rate of a clip's frames; images in between are left out", "Hz", 0.1, 120.0
    )
    clip_rate: float = setting(
        1.0, "most clips that are encoded per second, each of the newest frames", "Hz", 0.01, 60.0
    )
    resize: str = setting(
        "opencv",
        "resize of the frames: opencv as in the published evaluations, antialias as in the "
        "published demonstration and transformers",
        choices=RESIZES,
    )
    probe: str = setting(
        "", "attentive probe that names clips, in the published layout; empty = none"
    )
    heads: int = setting(
        16, "attention heads of the probe, which its file does not tell", "", 1, 128
    )
    labels: str = setting(
        "", "file with the names of the probe's classes, JSON or one a line; empty = numbers"
    )
    top: int = setting(5, "most likely labels that are published", "", 1, 1000)
