# SPDX-License-Identifier: Apache-2.0
"""Goal images as people send them, and as somebody sends them who wants the stack down."""

import io
import struct
import time
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from vjepa2_ros.camera.decoding import (
    MAX_SCANS,
    ImageError,
    ImageTooLargeError,
    check_image,
    decode_image,
)

LIMIT = 25_000_000
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
SMOOTH = cv2.resize(PIXELS, (333, 205), interpolation=cv2.INTER_CUBIC)


def saved(image, kind, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


def by_opencv(data):
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def png(*chunks):
    """A PNG of chunks (type, content)."""
    body = b"".join(
        struct.pack(">I", len(content)) + kind + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + body


def header(width, height, depth=8, colour=2):
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)


def refusal(data, limit=LIMIT):
    with pytest.raises(ImageError) as caught:
        decode_image(data, limit)
    return caught.value


def is_too_large(error):
    return isinstance(error, ImageTooLargeError)


# Right images -------------------------------------------------------------------------------


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [30, 75, 100])
def test_a_jpeg_has_the_pixels_that_opencv_gives(quality, subsampling, progressive):
    data = saved(SMOOTH, "JPEG", quality=quality, subsampling=subsampling, progressive=progressive)
    np.testing.assert_array_equal(decode_image(data, LIMIT), by_opencv(data))


def test_a_png_is_decoded_exactly():
    decoded = decode_image(saved(PIXELS, "PNG"), LIMIT)
    assert decoded.dtype == np.uint8 and decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, PIXELS)


@pytest.mark.parametrize(
    "options", [{"lossless": True}, {"quality": 80}, {"lossless": True, "exact": True}]
)
def test_a_webp_has_the_pixels_that_opencv_gives(options):
    data = saved(PIXELS, "WEBP", **options)
    np.testing.assert_array_equal(decode_image(data, LIMIT), by_opencv(data))
    if options.get("lossless"):
        np.testing.assert_array_equal(decode_image(data, LIMIT), PIXELS)


def test_a_webp_is_turned_as_its_exif_data_say():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(PIXELS, "WEBP", lossless=True, exif=exif.tobytes())
    np.testing.assert_array_equal(decode_image(data, LIMIT), np.rot90(PIXELS, -1))


def test_a_webp_with_alpha_loses_it_and_an_animated_one_gives_its_first_image():
    alpha = np.dstack([PIXELS, np.full((40, 50), 128, np.uint8)])
    data = saved(alpha, "WEBP", lossless=True, exact=True)
    np.testing.assert_array_equal(decode_image(data, LIMIT), PIXELS)
    frames = [Image.fromarray(PIXELS[::-1].copy())]
    data = saved(PIXELS, "WEBP", lossless=True, save_all=True, append_images=frames)
    np.testing.assert_array_equal(decode_image(data, LIMIT), PIXELS)


@pytest.mark.parametrize("lossless", [True, False])
def test_a_webp_that_is_too_large_is_refused_by_its_header_alone(lossless):
    data = saved(np.zeros((600, 500, 3), np.uint8), "WEBP", lossless=lossless)
    assert "500x600" in str(refusal(data, 299_999)) and is_too_large(refusal(data, 299_999))
    decode_image(data, 300_000)
    # Sixteen thousand pixels square, said by thirty bytes.
    said = b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\x3f\0\xff\x3f\0"
    assert is_too_large(refusal(said))


@pytest.mark.parametrize("kept", [12, 15, 20, 24, 29, 60, -1])
def test_a_webp_that_is_cut_off_is_refused(kept):
    assert "save it again" in str(refusal(saved(PIXELS, "WEBP", lossless=True)[:kept]))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_other_kinds_of_png_have_the_pixels_that_opencv_gives(mode):
    image = Image.fromarray(PIXELS).convert(mode)
    if image.mode.endswith("A"):
        image.putalpha(Image.fromarray(PIXELS[..., 0]))
    file = io.BytesIO()
    image.save(file, "PNG")
    np.testing.assert_array_equal(decode_image(file.getvalue(), LIMIT), by_opencv(file.getvalue()))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_of_sixteen_bits_the_upper_eight_count(channels):
    deep = np.random.default_rng(1).integers(0, 65536, (40, 50, channels), np.uint16)
    _, data = cv2.imencode(".png", deep)
    decoded = decode_image(data.tobytes(), LIMIT)
    expected = np.repeat(deep, 3, 2) if channels == 1 else deep[..., [2, 1, 0]]
    np.testing.assert_array_equal(decoded, expected >> 8)


def test_a_grey_jpeg_has_three_equal_channels():
    decoded = decode_image(saved(PIXELS[..., 0], "JPEG"), LIMIT)
    assert decoded.shape == (40, 50, 3) and np.ptp(decoded, axis=2).max() == 0


def test_a_cmyk_jpeg_has_the_colours_that_opencv_gives():
    file = io.BytesIO()
    Image.fromarray(SMOOTH).convert("CMYK").save(file, "JPEG")
    decoded = decode_image(file.getvalue(), LIMIT).astype(int)
    assert np.abs(decoded - by_opencv(file.getvalue())).max() <= 1


# What brings an image upright that was stored with that orientation, as EXIF numbers them.
TURNS = {
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: np.rot90,
    99: lambda image: image,
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_orientation_of_the_camera_is_applied(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = decode_image(saved(SMOOTH, kind), LIMIT)
    turned = decode_image(saved(SMOOTH, kind, exif=exif), LIMIT)
    np.testing.assert_array_equal(turned, TURNS[orientation](stored))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\x00\x00nonsense", b"Exif\x00\x00MM\x00*\xff\xff\xff\xff"])
def test_broken_exif_data_leave_the_image_as_it_is(exif):
    data = saved(SMOOTH, "JPEG", exif=exif)
    assert decode_image(data, LIMIT).shape == SMOOTH.shape


def test_an_animated_png_gives_its_first_image():
    second = Image.fromarray(255 - PIXELS)
    data = saved(PIXELS, "PNG", save_all=True, append_images=[second])
    np.testing.assert_array_equal(decode_image(data, LIMIT), PIXELS)


def test_a_photograph_with_a_second_image_behind_it_gives_the_first():
    data = saved(SMOOTH, "JPEG")
    np.testing.assert_array_equal(decode_image(data + data, LIMIT), by_opencv(data))


def test_an_image_of_just_the_limit_is_accepted():
    assert decode_image(saved(PIXELS, "PNG"), 2000).shape == (40, 50, 3)
    assert is_too_large(refusal(saved(PIXELS, "PNG"), 1999))


# Refused ones -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name"), [("BMP", "BMP"), ("TIFF", "TIFF"), ("GIF", "GIF")]
)
def test_other_formats_are_refused_with_their_name(kind, name):
    error = refusal(saved(PIXELS, kind))
    assert not is_too_large(error)
    assert f"in {name} format" in str(error) and "use a JPEG, PNG or WebP" in str(error)


@pytest.mark.parametrize(
    "data", [b"", b"\x89PNG broken", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff broken", b"text" * 99]
)
def test_bytes_that_are_no_image_are_refused(data):
    error = refusal(data)
    assert not is_too_large(error) and "cannot be decoded" in str(error)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_truncated_file_is_refused(kind, share):
    data = saved(SMOOTH, kind)
    assert not is_too_large(refusal(data[: int(share * len(data))]))


def test_every_single_broken_byte_gives_an_image_or_a_refusal():
    for kind in ("JPEG", "PNG"):
        whole = saved(PIXELS[:8, :8], kind)
        for position in range(len(whole)):
            data = bytearray(whole)
            data[position] ^= 0xFF
            try:
                decoded = decode_image(bytes(data), 10_000)
            except ImageError:
                continue
            assert decoded.dtype == np.uint8 and decoded.shape[2] == 3


def test_an_image_without_pixels_is_refused():
    data = png(header(0, 10), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    assert not is_too_large(refusal(data))


def took(decode):
    started = time.perf_counter()
    error = decode()
    assert time.perf_counter() - started < 1.0
    return error


def test_a_small_file_with_a_huge_image_is_refused_before_it_is_decoded():
    rows = zlib.compress(bytes((20_000 // 8 + 1) * 20_000), 9)
    data = png(header(20_000, 20_000, depth=1, colour=0), (b"IDAT", rows), (b"IEND", b""))
    assert len(data) < 400_000
    error = took(lambda: refusal(data))
    assert is_too_large(error)
    assert "20000x20000" in str(error) and "scale it down" in str(error)


def test_a_header_beyond_pillows_own_limit_is_too_large_too():
    data = png(header(100_000, 100_000), (b"IDAT", b""), (b"IEND", b""))
    assert is_too_large(refusal(data))


def test_of_a_small_image_with_gigabytes_behind_it_only_the_pixels_are_decoded():
    # 64 MB of zeros deflate to 64 kB; here are four gigabytes' worth.
    packer = zlib.compressobj(1)
    packed = packer.compress(bytes(10 * 31)) + packer.flush(zlib.Z_FULL_FLUSH)
    packed += (packer.compress(bytes(1 << 26)) + packer.flush(zlib.Z_FULL_FLUSH)) * 64
    data = png(header(10, 10), (b"IDAT", packed), (b"IEND", b""))
    image = took(lambda: decode_image(data, LIMIT))
    assert image.shape == (10, 10, 3) and image.max() == 0


def test_a_text_that_inflates_without_end_is_refused_or_ignored():
    bomb = b"comment\x00\x00" + zlib.compress(bytes(1 << 28), 9)
    row = zlib.compress(bytes(10 * 31))
    data = png(header(10, 10), (b"zTXt", bomb), (b"IDAT", row), (b"IEND", b""))

    def decode():
        try:
            return decode_image(data, LIMIT)
        except ImageError as error:
            return error

    took(decode)


def test_a_jpeg_of_thousands_of_scans_is_refused():
    data = saved(SMOOTH, "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    error = refusal(data[:-2] + scan * (MAX_SCANS + 1) + data[-2:])
    assert not is_too_large(error) and "scans" in str(error)


def test_a_check_of_the_header_decodes_nothing():
    data = saved(SMOOTH, "PNG")
    check_image(data[: len(data) // 2], LIMIT)
    with pytest.raises(ImageError, match="333x205"):
        check_image(data, 100)
