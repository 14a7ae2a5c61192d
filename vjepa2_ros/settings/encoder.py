# SPDX-License-Identifier: Apache-2.0
"""Settings of encoder_node."""

from __future__ import annotations

from dataclasses import dataclass

from vjepa2_ros.settings.declaration import Settings, inline, setting
from vjepa2_ros.settings.model import ModelSettings
from vjepa2_ros.settings.transport import ImageSubscription


@dataclass(frozen=True)
class EncoderNodeSettings(Settings):
    """Images to latents."""

    model: ModelSettings = inline(ModelSettings)
    subscription: ImageSubscription = inline(ImageSubscription)
    half_precision: bool = setting(
        True, "send latents as float16: half the bytes on the wire, and plans stay the same"
    )
    max_image_megapixels: float = setting(
        25.0,
        "largest goal image or compressed camera image; a larger one is refused before it is "
        "decoded",
        "10^6 pixels", 0.01, 400.0, live="any",
    )  # fmt: skip
