# SPDX-License-Identifier: Apache-2.0
"""Raw images as camera drivers send them, in every colour encoding of `sensor_msgs`, as RGB.

The same pixels as from `cv_bridge`, which is not needed for it; rows may be padded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np


class EncodingError(ValueError):
    """An image has an encoding without colours, or its fields contradict each other."""


@dataclass(frozen=True)
class _Layout:
    """How an encoding stores pixels.

    Attributes:
        kind: of a number.
        channels: numbers in a row for each pixel.
        conversion: of OpenCV to RGB; None for RGB itself.
        planes: rows of numbers for each row of pixels, as numerator and denominator.
    """

    kind: str
    channels: int
    conversion: int | None
    planes: tuple[int, int] = (1, 1)


# OpenCV names a Bayer pattern by the second row, from its second pixel on.
_BAYER = {
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}
_PACKED: Mapping[str, tuple[int, int | None]] = {
    "rgb": (3, None),
    "bgr": (3, cv2.COLOR_BGR2RGB),
    "rgba": (4, cv2.COLOR_RGBA2RGB),
    "bgra": (4, cv2.COLOR_BGRA2RGB),
    "mono": (1, cv2.COLOR_GRAY2RGB),
    **{f"bayer_{pattern}": (1, conversion) for pattern, conversion in _BAYER.items()},
}
_LAYOUTS: Mapping[str, _Layout] = {
    **{
        f"{name}{8 * size}": _Layout(f"u{size}", channels, conversion)
        for size in (1, 2)
        for name, (channels, conversion) in _PACKED.items()
    },
    # Both names of each: the old one of sensor_msgs, and the one since Iron.
    "yuv422": _Layout("u1", 2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": _Layout("u1", 2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": _Layout("u1", 2, cv2.COLOR_YUV2RGB_YUYV),
    "yuyv": _Layout("u1", 2, cv2.COLOR_YUV2RGB_YUYV),
    "nv12": _Layout("u1", 1, cv2.COLOR_YUV2RGB_NV12, (3, 2)),
    "nv21": _Layout("u1", 1, cv2.COLOR_YUV2RGB_NV21, (3, 2)),
}
# Of encodings in which two pixels share a colour.
_SHARING = {
    layout.conversion
    for layout in _LAYOUTS.values()
    if layout.channels == 2 or layout.planes != (1, 1)
}
ENCODINGS = tuple(_LAYOUTS)
"""Names of the encodings that can be converted."""


def rgb_of(
    data: bytes, encoding: str, width: int, height: int, step: int, big_endian: bool = False
) -> np.ndarray:
    """Pixels of a raw image.

    Of 16 bits a channel the upper 8 are kept by scaling, as `cv_bridge` does; an alpha channel is
    dropped.

    Args:
        data: the rows, top to bottom; of nv12 and nv21 the plane of the colours after them.
        encoding: one of `ENCODINGS`.
        width: in pixels.
        height: in pixels.
        step: length of a row [bytes], with what fills it up.
        big_endian: byte order of numbers of 16 bits.

    Returns:
        uint8 RGB [height, width, 3].

    Raises:
        EncodingError: it has another encoding, or its fields contradict each other.
    """
    layout = _LAYOUTS.get(encoding)
    if layout is None:
        raise EncodingError(
            f"image encoding {encoding!r} is not supported; publish one of {', '.join(ENCODINGS)}"
        )
    kind = np.dtype(layout.kind).newbyteorder(">" if big_endian else "<")
    row = width * layout.channels * kind.itemsize
    numerator, denominator = layout.planes
    rows, odd = divmod(height * numerator, denominator)
    if min(width, height) < 1 or step < row or len(data) != step * rows or odd:
        raise EncodingError(
            f"image of {width}x{height} {encoding} with rows of {step} bytes holds {len(data)} "
            "bytes"
        )
    if layout.conversion in _SHARING and width % 2:
        raise EncodingError(f"image of {width}x{height} {encoding} has an odd width")
    stored = np.frombuffer(data, np.uint8).reshape(rows, step)[:, :row]
    pixels = np.ascontiguousarray(stored).view(kind).reshape(rows, width, layout.channels)
    if kind.itemsize == 2:
        pixels = pixels.astype(np.uint16, copy=False)
    if layout.conversion is not None:
        pixels = cv2.cvtColor(pixels, layout.conversion)
    if pixels.dtype == np.uint16:
        pixels = cv2.convertScaleAbs(pixels, alpha=255.0 / 65535.0)
    return pixels

