# SPDX-License-Identifier: Apache-2.0
"""JPEG, PNG and WebP files as pixels, checked before anything is decoded.

A file of a few hundred kilobytes may hold gigabytes of pixels, so that its header is read and its
size checked first. Pillow decodes, because it reports a truncated file and gives the same pixels
in all its versions; they are those of OpenCV.
"""

from __future__ import annotations

import io
import re

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

MAX_PIXELS = 25_000_000
"""Most pixels of an image where no setting says otherwise."""

# Pillow's classes and not `Image.open`, which has a limit of its own below the largest of ours.
_SUPPORTED = (
    (re.compile(rb"\xff\xd8\xff"), JpegImageFile),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImageFile),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), WebPImageFile),
)
_REFUSED = {
    "GIF": rb"GIF8",
    "BMP": rb"BM",
    "TIFF": rb"II[*+]\x00|MM\x00[*+]",
    "HEIC or AVIF": rb"....ftyp",
}
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Marker, length and number of components.
_SCAN = re.compile(rb"\xff\xda\x00[\x08\x0a\x0c\x0e][\x01-\x04]")
MAX_SCANS = 100
"""Most scans of a progressive JPEG. Each costs a pass over all blocks; encoders make about ten."""


class ImageError(ValueError):
    """An image cannot be used; the text says why, and what to do."""


class ImageTooLargeError(ImageError):
    """An image has more pixels than are accepted."""


def check_image(data: bytes, max_pixels: int) -> None:
    """Check format and size of an image file from its header, without decoding it.

    Args:
        data: content of the file.
        max_pixels: largest width times height.

    Raises:
        ImageTooLargeError: it has more pixels.
        ImageError: it is no JPEG, PNG or WebP, or its header is broken.
    """
    _open(data, max_pixels)


def decode_image(data: bytes, max_pixels: int) -> np.ndarray:
    """Decode a JPEG, PNG or WebP file.

    The orientation in its EXIF data is applied, 16 bits per channel become the upper 8, an alpha
    channel is dropped, and an animated file gives its first image.

    Args:
        data: content of the file.
        max_pixels: largest width times height.

    Returns:
        uint8 RGB [height, width, 3].

    Raises:
        ImageTooLargeError: it has more pixels; nothing was decoded.
        ImageError: it is no JPEG, PNG or WebP, truncated or broken.
    """
    image = _open(data, max_pixels)
    try:
        image.load()
        return np.ascontiguousarray(_upright(_rgb(image), image))
    except Exception as error:  # noqa: BLE001 - Pillow raises a dozen kinds for broken files
        raise ImageError(f"the image cannot be decoded: {error}; save it again") from error


def _open(data: bytes, max_pixels: int) -> ImageFile:
    """Open a file at its header, whose size is checked."""
    data = bytes(data)
    kind = next((kind for start, kind in _SUPPORTED if start.match(data)), None)
    if kind is None:
        raise ImageError(f"{_describe(data)} cannot be decoded; use a JPEG, PNG or WebP")
    try:
        if kind is WebPImageFile:
            # Its decoder reserves memory for all pixels when it opens a file.
            _check_size(*_webp_size(data), max_pixels)
        image = kind(io.BytesIO(data))
    except ImageError:
        raise
    except Exception as error:  # noqa: BLE001 - Pillow raises a dozen kinds for broken files
        raise ImageError(f"the image's header cannot be decoded: {error}; save it again") from error
    _check_size(*image.size, max_pixels)
    if kind is JpegImageFile and len(_SCAN.findall(data)) > MAX_SCANS:
        raise ImageError(f"the JPEG has more than {MAX_SCANS} scans; save it again")
    return image


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"the image has {width}x{height} pixels, {width * height / 1e6:.1f} million, but at "
            f"most {max_pixels / 1e6:g} million are accepted; scale it down"
        )


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of a WebP file, by the header of its first chunk (RFC 9649)."""
    chunk = data[12:16]
    if chunk == b"VP8X":
        return _number(data, 24, 3) + 1, _number(data, 27, 3) + 1
    if chunk == b"VP8L":
        bits = _number(data, 21, 4)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 ":
        return _number(data, 26, 2) & 0x3FFF, _number(data, 28, 2) & 0x3FFF
    raise ImageError("the image's header cannot be decoded: an unknown kind of WebP; save it again")


def _number(data: bytes, start: int, size: int) -> int:
    if len(data) < start + size:
        raise ImageError("the image's header cannot be decoded: it ends early; save it again")
    return int.from_bytes(data[start : start + size], "little")


def _describe(data: bytes) -> str:
    for name, pattern in _REFUSED.items():
        if re.match(pattern, data, re.DOTALL):
            return f"an image in {name} format"
    return f"{len(data)} bytes that are no JPEG, PNG or WebP" if data else "an empty file"


def _rgb(image: ImageFile) -> Image.Image:
    if image.mode.startswith("I"):
        # 16-bit grey, which Pillow's own conversion would clip at 255.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def _upright(pixels: Image.Image, image: ImageFile) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # noqa: BLE001 - broken EXIF data say nothing about the pixels
        return pixels
    return pixels.transpose(_TURNS[orientation]) if orientation in _TURNS else pixels
