# SPDX-License-Identifier: Apache-2.0
"""Raw images of every encoding that ROS camera drivers send."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from vjepa2_ros.camera.encodings import ENCODINGS, EncodingError, rgb_of

WIDTH, HEIGHT = 48, 32
CHANNELS = {"rgb": 3, "bgr": 3, "rgba": 4, "bgra": 4, "mono": 1, "bayer": 1}
BYTES = {"yuv422": 2, "uyvy": 2, "yuv422_yuy2": 2, "yuyv": 2, "nv12": 1, "nv21": 1}


def picture():
    """A smooth picture [HEIGHT, WIDTH, 3] with a different gradient in each channel."""
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([4 * column, 6 * row, 120 + column - row], axis=-1).astype(np.uint8)


def stored(encoding, seed=0):
    """Random data of an image as a driver stores it: rows, bytes of a row."""
    generator = np.random.default_rng(seed)
    if encoding in BYTES:
        rows = HEIGHT * 3 // 2 if encoding.startswith("nv") else HEIGHT
        return generator.integers(0, 256, (rows, WIDTH * BYTES[encoding]), np.uint8)
    name, bits = encoding.rstrip("0123456789"), 16 if encoding.endswith("16") else 8
    row = WIDTH * CHANNELS[name.split("_")[0]] * bits // 8
    return generator.integers(0, 256, (HEIGHT, row), np.uint8)


def converted(data, encoding, **changes):
    fields = dict(width=WIDTH, height=HEIGHT, step=data.shape[1], **changes)
    return rgb_of(data.tobytes(), encoding, **fields)


def message(data, encoding):
    return SimpleNamespace(
        encoding=encoding, width=WIDTH, height=HEIGHT, step=data.shape[1], is_bigendian=0,
        data=data.ravel(), header=None,
    )  # fmt: skip


@pytest.mark.parametrize("encoding", [e for e in ENCODINGS if not e.startswith("nv")])
def test_the_pixels_are_those_of_rosbags(encoding):
    # rosbags does not know that nv12 and nv21 have a plane of colours after the other one.
    image = pytest.importorskip("rosbags.image")
    data = stored(encoding)
    theirs = image.message_to_cvimage(message(data, encoding), "rgb8")
    # Both scale 16 bits to 8; one rounds, the other cuts off.
    np.testing.assert_allclose(converted(data, encoding), theirs, atol=1 if "16" in encoding else 0)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_pixels_are_those_of_cv_bridge(encoding):
    bridge = pytest.importorskip("cv_bridge", reason="cv_bridge comes with a ROS 2 of Debian")
    from sensor_msgs.msg import Image

    data = stored(encoding)
    sent = Image(
        encoding=encoding, width=WIDTH, height=HEIGHT, step=data.shape[1], data=data.tobytes()
    )
    theirs = bridge.CvBridge().imgmsg_to_cv2(sent, "rgb8")
    np.testing.assert_array_equal(converted(data, encoding), theirs)


@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
def test_a_plane_of_colours_after_the_grey_one_is_used(encoding):
    # OpenCV has no way from RGB to nv12: its planes are put together from those of I420.
    planes = cv2.cvtColor(picture(), cv2.COLOR_RGB2YUV_I420)
    grey, colours = planes[:HEIGHT], planes[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)
    pair = colours if encoding == "nv12" else colours[::-1]
    data = np.vstack([grey, np.stack(pair, axis=-1).reshape(HEIGHT // 2, WIDTH)])
    assert np.abs(converted(data, encoding).astype(int) - picture()).mean() < 4


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_a_bayer_pattern_gives_the_colours_back(pattern):
    flat = np.zeros((HEIGHT, WIDTH), np.uint8)
    values = {"r": 200, "g": 120, "b": 40}
    for index, colour in enumerate(pattern):
        flat[index // 2 :: 2, index % 2 :: 2] = values[colour]
    inner = converted(flat, f"bayer_{pattern}8")[4:-4, 4:-4]
    np.testing.assert_array_equal(inner, np.broadcast_to([200, 120, 40], inner.shape))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_rows_may_be_padded(encoding):
    data = stored(encoding)
    padded = np.hstack([data, np.full((len(data), 6), 255, np.uint8)])
    np.testing.assert_array_equal(converted(padded, encoding), converted(data, encoding))


@pytest.mark.parametrize("encoding", [e for e in ENCODINGS if e.endswith("16")])
def test_the_order_of_the_bytes_is_the_messages(encoding):
    data = stored(encoding)
    swapped = data.reshape(len(data), -1, 2)[..., ::-1].reshape(data.shape)
    np.testing.assert_array_equal(
        converted(np.ascontiguousarray(swapped), encoding, big_endian=True),
        converted(data, encoding),
    )


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1", "8UC3", "", "rgb8; jpeg"])
def test_an_encoding_without_colours_is_refused_with_those_that_are_taken(encoding):
    with pytest.raises(EncodingError, match="not supported; publish one of rgb8, "):
        converted(stored("rgb8"), encoding)


@pytest.mark.parametrize(
    "encoding, fields",
    [
        ("rgb8", dict(step=WIDTH)),
        ("rgb8", dict(height=HEIGHT + 1)),
        ("rgb8", dict(width=0)),
        ("uyvy", dict(width=WIDTH - 1)),
        ("nv12", dict(height=HEIGHT - 1)),
        ("mono16", dict(step=2 * WIDTH + 1)),
    ],
)
def test_fields_that_contradict_each_other_are_refused(encoding, fields):
    data = stored(encoding)
    given = dict(width=WIDTH, height=HEIGHT, step=data.shape[1]) | fields
    with pytest.raises(EncodingError, match="holds|odd width"):
        rgb_of(data.tobytes(), encoding, **given)
