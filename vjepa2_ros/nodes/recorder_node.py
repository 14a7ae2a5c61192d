# SPDX-License-Identifier: Apache-2.0
"""Records every topic into an MCAP bag, with what describes the stack beside the messages."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from rosbags.rosbag2.errors import WriterError

from vjepa2_ros.ros.bag_metadata import BagMetadata
from vjepa2_ros.ros.managed_node import ManagedNode
from vjepa2_ros.ros.recorder import Recorder
from vjepa2_ros.ros.runner import run
from vjepa2_ros.settings.recorder import RecorderNodeSettings


class RecorderNode(ManagedNode):
    """Writes from its start to its end; the stack goes on without it."""

    NAME = "recorder_node"
    SETTINGS = RecorderNodeSettings
    STARTS_BY_ITSELF = True
    _recorder: Recorder | None = None
    _is_said = False

    def configure(self) -> None:
        self._is_said = False
        folder = Path(self.settings.folder or time.strftime("bag-%Y%m%d-%H%M%S")).expanduser()
        try:
            self._recorder = Recorder(self, folder, {})
        except WriterError as error:
            raise OSError(f"no bag can be written: {error}") from error
        self._metadata = BagMetadata(self, self._recorder, self.get_namespace())
        self.get_logger().info(f"recording into {folder}")
        self.every(1.0, self._on_tick)

    def cleanup(self) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            self._metadata.close()
            recorder.close()

    def _on_tick(self) -> None:
        recorder = self._recorder
        self.health.set("messages", sum(recorder.counts.values()))
        self.health.set("parameters of", ", ".join(self._metadata.described))
        if recorder.problem is not None:
            text = f"the bag is not complete: {recorder.problem}"
            self.health.error(text)
            if not self._is_said:
                self._is_said = True
                self.get_logger().error(text)
        else:
            self.health.beat()


def main() -> int:
    return run(RecorderNode, sys.argv)


if __name__ == "__main__":
    sys.exit(main())
