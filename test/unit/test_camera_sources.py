# SPDX-License-Identifier: Apache-2.0
"""Video files, folders and missing cameras, read with the real OpenCV."""

import cv2
import numpy as np
import pytest

from vjepa2_ros.camera.sources import CameraError, open_source

RATE = 1000.0


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
    source = open_source("folder", str(folder), RATE)
    reds = []
    for _ in range(4):
        assert source.grab()
        image = source.retrieve()
        assert image.dtype == np.uint8 and image.shape == (48, 64, 3)
        reds.append(int(image[0, 0, 0]))
    assert reds == [50, 150, 250, 50]


def test_a_folder_that_does_not_loop_ends(folder):
    source = open_source("folder", str(folder), RATE, loop=False)
    assert [source.grab() for _ in range(4)] == [True, True, True, False]


def test_closing_ends_a_wait_for_the_next_image(folder):
    source = open_source("folder", str(folder), rate=0.001)
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
    source = open_source("video", str(path), RATE)
    reds = []
    for _ in range(3):
        assert source.grab()
        reds.append(int(source.retrieve()[..., 0].mean()))
    np.testing.assert_allclose(reds, [50, 250, 50], atol=6)
    once = open_source("video", str(path), RATE, loop=False)
    assert [once.grab() for _ in range(3)] == [True, True, False]


def test_a_camera_that_is_not_there_is_named_with_what_to_do():
    with pytest.raises(CameraError, match="no camera at /dev/video97.*Plug it in"):
        open_source("device", "/dev/video97", RATE)


def test_a_device_number_means_the_node_of_that_number():
    with pytest.raises(CameraError, match="no camera at /dev/video98"):
        open_source("device", "98", RATE)


def test_a_file_that_is_no_camera_is_refused():
    with pytest.raises(CameraError, match="cannot be opened as a camera"):
        open_source("device", "/dev/null", RATE)


@pytest.mark.parametrize("kind", ["video", "folder"])
def test_a_path_that_is_not_there_is_refused(kind, tmp_path):
    with pytest.raises(CameraError, match="set the parameter `path`"):
        open_source(kind, str(tmp_path / "absent"), RATE)


def test_a_file_that_is_no_video_is_refused(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(CameraError, match="cannot be decoded as a video"):
        open_source("video", str(tmp_path / "text.mp4"), RATE)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(CameraError, match="holds no image"):
        open_source("folder", str(tmp_path), RATE)


def test_a_broken_image_in_a_folder_is_named(folder):
    (folder / "000.png").write_bytes(b"not a picture")
    source = open_source("folder", str(folder), RATE)
    assert source.grab()
    with pytest.raises(CameraError, match="000.png cannot be decoded"):
        source.retrieve()


def test_an_unknown_kind_of_source_is_refused_with_the_known_ones():
    with pytest.raises(CameraError, match="device, video, folder"):
        open_source("webcam", "0", RATE)


@pytest.mark.parametrize("size", [(640, 0), (0, 480)])
@pytest.mark.parametrize("kind", ["device", "folder"])
def test_a_width_without_a_height_is_refused_and_so_is_the_reverse(kind, size, folder):
    with pytest.raises(ValueError, match=rf"width is {size[0]} and height {size[1]}: set both"):
        open_source(kind, str(folder), RATE, *size)


def test_a_rate_of_zero_is_refused():
    with pytest.raises(CameraError, match="rate must be greater than zero"):
        open_source("folder", ".", 0.0)
