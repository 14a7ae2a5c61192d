# SPDX-License-Identifier: Apache-2.0
"""Camera images on the wire: raw, or also as JPEG for a slow network.

Topics are named as by ROS's image_transport: `camera/image_raw` and `camera/image_raw/compressed`.
"""

from __future__ import annotations

from array import array
from collections import deque
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from vjepa2_ros.ros.conversions import image_message, stamp
from vjepa2_ros.ros.managed_node import ManagedNode
from vjepa2_ros.ros.qos import LATEST
from vjepa2_ros.settings.transport import COMPRESSED, ImageTransport

RAW_TOPIC = "camera/image_raw"
COMPRESSED_TOPIC = "camera/image_raw/compressed"
LATE = 0.5
"""Age of an image at its arrival above which it counts as late [s]."""
# Time over which the bandwidth is averaged [s].
_SPAN = 5.0


class ImagePublisher:
    """Publishes images of a node; may be used from one thread at a time.

    The raw topic is always offered: a message that nobody on another host subscribes to does not
    leave this one. JPEGs are made while somebody subscribes to them.

    Args:
        node: publishes; this must be created while it is configured.
        transport: whether and how JPEGs are offered.
    """

    def __init__(self, node: ManagedNode, transport: ImageTransport) -> None:
        self._transport = transport
        self._raw = node.advertise(Image, RAW_TOPIC, LATEST)
        self._compressed: Any = None
        if transport.image_transport == COMPRESSED:
            self._compressed = node.advertise(CompressedImage, COMPRESSED_TOPIC, LATEST)

    def publish(self, image: np.ndarray, time: float, frame_id: str) -> Header:
        """Publish an image.

        Args:
            image: uint8 RGB [height, width, 3].
            time: of its capture [s].
            frame_id: the camera's optical frame.

        Returns:
            The header of its messages.
        """
        header = Header(stamp=stamp(time), frame_id=frame_id)
        if self._compressed is not None and self._compressed.get_subscription_count() > 0:
            data = jpeg(image, self._transport.jpeg_quality)
            self._compressed.publish(
                CompressedImage(header=header, format="rgb8; jpeg compressed bgr8", data=data)
            )
        self._raw.publish(image_message(image, time, frame_id))
        return header


def jpeg(image: np.ndarray, quality: int) -> array:
    """Bytes of an RGB image [height, width, 3] as JPEG of a quality from 1 to 100."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return array("B", data.tobytes())


class LinkMeter:
    """Latency and bandwidth of the images of the last seconds.

    Attributes:
        late: number of images that arrived older than `LATE`, since the beginning.
    """

    def __init__(self) -> None:
        self.late = 0
        self._received: deque[tuple[float, int, float]] = deque()

    def add(self, size: int, latency: float, steady: float) -> None:
        """Note an image.

        Args:
            size: of its data [bytes].
            latency: from its stamp to its arrival [s].
            steady: when it arrived, on a clock that never jumps [s].
        """
        self.late += latency > LATE
        self._received.append((steady, size, latency))
        while self._received[0][0] <= steady - _SPAN:
            self._received.popleft()

    def values(self) -> dict[str, str]:
        """Entries of the diagnostics; none before two images in a row have arrived."""
        if len(self._received) < 2:
            return {}
        times, sizes, latencies = zip(*self._received, strict=True)
        # The first one came before the time between the first and the last one.
        rate = sum(sizes[1:]) / max(times[-1] - times[0], 1e-6)
        return {
            "image_latency_ms": f"{1e3 * sum(latencies) / len(latencies):.1f}",
            "image_mbit_s": f"{8e-6 * rate:.3f}",
        }
