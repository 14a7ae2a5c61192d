# SPDX-License-Identifier: Apache-2.0
"""How camera images travel between nodes."""

from __future__ import annotations

from dataclasses import dataclass

from vjepa2_ros.settings.declaration import Settings, setting

RAW, COMPRESSED = "raw", "compressed"


@dataclass(frozen=True)
class ImageSubscription(Settings):
    """Which of the camera's topics is used."""

    image_transport: str = setting(
        RAW,
        "how images travel: raw, or compressed as JPEG for a slow network between two hosts",
        choices=(RAW, COMPRESSED), shared="same",
    )  # fmt: skip


@dataclass(frozen=True)
class ImageTransport(ImageSubscription):
    """Which topics a camera offers."""

    jpeg_quality: int = setting(
        90, "quality of compressed images; lower ones change what the model sees", "", 1, 100
    )
