# SPDX-License-Identifier: Apache-2.0
"""Goal images that once brought the stack down."""

import struct
import zlib

import cv2
import numpy as np

from vjepa2_ros.ros.conversions import compressed_image


def huge_png():
    """A PNG of 20,000 x 20,000 pixels in less than 400 kB."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((20_000 // 8 + 1) * 20_000), 9)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    data = b"\x89PNG\r\n\x1a\n" + chunks
    assert len(data) < 400_000
    return compressed_image(data)


def huge_jpeg():
    """A JPEG of 8,000 x 8,000 pixels."""
    _, data = cv2.imencode(".jpg", np.zeros((8_000, 8_000, 3), np.uint8))
    return compressed_image(data.tobytes())
