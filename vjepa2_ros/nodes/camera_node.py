# SPDX-License-Identifier: Apache-2.0
"""Images of a camera device, a video file or a folder as ROS messages, stamped at capture."""

from __future__ import annotations

import sys
import threading

import numpy as np
from sensor_msgs.msg import CameraInfo

from vjepa2_ros.camera.sources import CameraError, Source, open_source
from vjepa2_ros.ros.conversions import camera_info
from vjepa2_ros.ros.image_transport import ImagePublisher
from vjepa2_ros.ros.managed_node import ManagedNode
from vjepa2_ros.ros.qos import LATEST
from vjepa2_ros.ros.runner import run
from vjepa2_ros.settings.camera import CameraNodeSettings


class CameraNode(ManagedNode):
    """Reads a source in a thread of its own, because a read waits for the next image."""

    NAME = "camera_node"
    SETTINGS = CameraNodeSettings
    _source: Source | None = None
    _thread: threading.Thread | None = None

    def configure(self) -> None:
        self._source = open_source(self.settings)
        self._images = ImagePublisher(self, self.settings.transport)
        self._infos = self.advertise(CameraInfo, "camera/camera_info", LATEST)
        self._stop = threading.Event()

    def activate(self) -> None:
        self._stop.clear()
        self._thread = threading.Thread(
            target=self._stream, args=(self._source,), name="camera", daemon=True
        )
        self._thread.start()

    def deactivate(self) -> None:
        if self._thread is not None:
            self._stop.set()
            self._thread.join(2.0 + 1.0 / self.settings.rate)
            self._thread = None

    def cleanup(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None

    def _stream(self, source: Source) -> None:
        fx, fy, cx, cy = self.settings.intrinsics
        matrix = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
        try:
            while not self._stop.is_set():
                if not source.grab():
                    self.post(self.fail, "the end of the images was reached (parameter `loop`)")
                    return
                now = self.now()
                image = source.retrieve()
                info = camera_info(matrix, image.shape[1], image.shape[0])
                frame = self.settings.frame.camera_frame
                info.header = self._images.publish(image, now, frame)
                self._infos.publish(info)
                self.post(self.health.beat)
        except CameraError as error:
            self.post(self.fail, str(error))
        except Exception as error:  # noqa: BLE001 - a thread's exception is lost otherwise
            self.post_error(error)
            self.post(self.fail, "reading the camera failed")


def main() -> int:
    return run(CameraNode, sys.argv)


if __name__ == "__main__":
    sys.exit(main())
