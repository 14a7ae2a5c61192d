# SPDX-License-Identifier: Apache-2.0
"""Video files, folders and missing cameras, read with the real OpenCV."""

import struct
import time
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from vjepa2_ros.camera import sources
from vjepa2_ros.camera.sources import CameraError, open_source
from vjepa2_ros.settings.camera import CameraNodeSettings
from vjepa2_ros.settings.declaration import SettingsError, build

RATE = 100.0


def opened(source, path, **settings):
    given = {"source": source, "path": str(path), "rate": RATE, **settings}
    return open_source(build(CameraNodeSettings, given))


def plain_image(red, height=48, width=64):
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = red
    return image


def write(path, image):
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


@pytest.fixture
def folder(tmp_path):
    for index, red in enumerate((50, 150, 250)):
        write(tmp_path / f"{index:03d}.png", plain_image(red))
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_a_folder_gives_its_images_in_order_as_rgb_and_starts_again(folder):
    source = opened("folder", folder)
    reds = []
    for _ in range(4):
        assert source.grab()
        image = source.retrieve()
        assert image.dtype == np.uint8 and image.shape == (48, 64, 3)
        reds.append(int(image[0, 0, 0]))
    assert reds == [50, 150, 250, 50]


def test_a_folder_that_does_not_loop_ends(folder):
    source = opened("folder", folder, loop=False)
    assert [source.grab() for _ in range(4)] == [True, True, True, False]


def test_closing_ends_a_wait_for_the_next_image(folder):
    source = opened("folder", folder, rate=0.1)
    assert source.grab()
    source.close()
    assert not source.grab()


def test_a_video_file_is_read_and_starts_again(tmp_path):
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    assert writer.isOpened()
    for red in (50, 250):
        writer.write(cv2.cvtColor(plain_image(red), cv2.COLOR_RGB2BGR))
    writer.release()
    source = opened("video", path)
    reds = []
    for _ in range(3):
        assert source.grab()
        reds.append(int(source.retrieve()[..., 0].mean()))
    np.testing.assert_allclose(reds, [50, 250, 50], atol=6)
    once = opened("video", path, loop=False)
    assert [once.grab() for _ in range(3)] == [True, True, False]


def test_a_camera_that_is_not_there_is_named_with_what_to_do():
    with pytest.raises(CameraError, match="no camera at /dev/video97.*Plug it in"):
        opened("device", "/dev/video97")


def test_a_device_number_means_the_node_of_that_number():
    with pytest.raises(CameraError, match="no camera at /dev/video98"):
        opened("device", "98")


def test_a_file_that_is_no_camera_is_refused():
    with pytest.raises(CameraError, match="cannot be opened as a camera"):
        opened("device", "/dev/null")


@pytest.mark.parametrize("kind", ["video", "folder"])
def test_a_path_that_is_not_there_is_refused(kind, tmp_path):
    with pytest.raises(CameraError, match="set the parameter `path`"):
        opened(kind, tmp_path / "absent")


def test_a_file_that_is_no_video_is_refused(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(CameraError, match="cannot be decoded as a video"):
        opened("video", tmp_path / "text.mp4")


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(CameraError, match="holds no image"):
        opened("folder", tmp_path)


@pytest.mark.parametrize("name", ["000.png", "000.tif"])
def test_a_broken_image_in_a_folder_is_named(folder, name):
    (folder / "000.png").unlink()
    (folder / name).write_bytes(b"not an image")
    source = opened("folder", folder)
    assert source.grab()
    with pytest.raises(CameraError, match=f"{name} cannot be decoded"):
        source.retrieve()


def huge_image(path):
    """A small file of 400 million pixels."""
    if path.suffix == ".png":
        with Image.new("1", (1, 1)) as image:
            image.save(path)
        data = bytearray(path.read_bytes())
        data[16:24] = struct.pack(">II", 20_000, 20_000)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        path.write_bytes(data)
    else:
        Image.new("1", (20_000, 20_000)).save(path, compression="group4")
    assert path.stat().st_size < 1_000_000


@pytest.mark.parametrize("name", ["000.png", "000.tif"])
def test_an_image_that_is_too_large_is_refused_before_it_is_decoded(folder, name):
    (folder / "000.png").unlink()
    huge_image(folder / name)
    source = opened("folder", folder)
    assert source.grab()
    started = time.monotonic()
    with pytest.raises(CameraError, match=f"{name}.*(20000x20000|400000000) pixels"):
        source.retrieve()
    assert time.monotonic() - started < 1.0


def test_a_photograph_in_a_folder_is_turned_upright(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(plain_image(50)).save(folder / "000.jpg", exif=exif)
    source = opened("folder", folder)
    assert source.grab()
    assert source.retrieve().shape == (64, 48, 3)


def test_a_video_whose_images_are_too_large_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    writer.write(plain_image(50))
    writer.release()
    monkeypatch.setattr(sources, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(CameraError, match="64x48 pixels.*scale it down"):
        opened("video", path)


def test_an_unknown_kind_of_source_is_refused_with_the_known_ones():
    with pytest.raises(SettingsError, match="device, video, folder"):
        opened("webcam", "0")


@pytest.mark.parametrize("size", [(640, 0), (0, 480)])
def test_a_width_without_a_height_is_refused_and_so_is_the_reverse(size):
    width, height = size
    with pytest.raises(SettingsError, match=f"width is {width} and height {height}: set both"):
        opened("device", "0", width=width, height=height)
