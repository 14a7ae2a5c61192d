# SPDX-License-Identifier: Apache-2.0
"""Settings of recorder_node: where a bag is written."""

from __future__ import annotations

from dataclasses import dataclass

from vjepa2_ros.settings.declaration import Settings, setting


@dataclass(frozen=True)
class RecorderNodeSettings(Settings):
    """A bag of every topic."""

    folder: str = setting(
        "", "folder of the bag, which must not exist yet; empty = bag-TIME in the working directory"
    )
