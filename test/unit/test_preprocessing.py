# SPDX-License-Identifier: Apache-2.0
"""Crops and scaling of camera images; golden images are in test_verify.py."""

import numpy as np
import pytest
import torch

from vjepa2_ros.world_model.preprocessing import central_crop, preprocess

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "aspect", "crop"),
    [
        (720, 1280, 1.35, (0, 154, 720, 972)),
        (480, 640, 1.35, (0, 0, 480, 640)),
        (200, 150, 1.35, (0, 0, 200, 150)),
        (1280, 720, 1.35, (160, 0, 960, 720)),
        (256, 256, 1.35, (0, 0, 256, 256)),
        (480, 640, 1.0, (0, 80, 480, 480)),
        (200, 150, 1.0, (25, 0, 150, 150)),
        (256, 256, 1.0, (0, 0, 256, 256)),
        (720, 1280, float("inf"), (0, 0, 720, 1280)),
        (1280, 720, float("inf"), (0, 0, 1280, 720)),
    ],
)
def test_crops_are_those_of_training_of_the_notebook_and_none(height, width, aspect, crop):
    assert central_crop(height, width, aspect) == crop


def test_a_square_image_of_the_right_size_comes_through_whole():
    pixels = image(256, 256)
    expected = (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - MEAN) / STD
    torch.testing.assert_close(preprocess(pixels, 256), expected, atol=1e-5, rtol=0)


def test_several_images_give_what_each_gives_alone():
    pixels = np.stack([image(120, 200, seed) for seed in range(3)])
    together = preprocess(pixels, 64)
    assert together.shape == (3, 3, 64, 64) and together.dtype == torch.float32
    torch.testing.assert_close(together[1], preprocess(pixels[1], 64))


def test_the_image_is_left_as_it_was():
    pixels = image(64, 64)
    before = pixels.copy()
    preprocess(pixels, 64)
    np.testing.assert_array_equal(pixels, before)


def test_a_mirrored_view_without_contiguous_memory_is_accepted():
    pixels = image(64, 100)
    torch.testing.assert_close(
        preprocess(pixels[:, ::-1], 64), preprocess(pixels[:, ::-1].copy(), 64)
    )


@pytest.mark.parametrize(
    ("pixels", "complaint"),
    [
        (np.zeros((64, 64, 3), np.float32), "uint8"),
        (torch.zeros(64, 64, 3, dtype=torch.uint8), "numpy"),
        (np.zeros((64, 64), np.uint8), "shape"),
        (np.zeros((64, 64, 4), np.uint8), "shape"),
        (np.zeros((3, 64, 64), np.uint8), "shape"),
        (np.zeros((31, 640, 3), np.uint8), "too small"),
    ],
)
def test_what_is_no_rgb_image_is_refused_by_name(pixels, complaint):
    with pytest.raises(ValueError, match=complaint):
        preprocess(pixels, 64)


@pytest.mark.parametrize("aspect", [0.0, -1.0, float("nan")])
def test_a_crop_that_is_no_positive_number_is_refused(aspect):
    with pytest.raises(ValueError, match="crop_aspect"):
        preprocess(image(64, 64), 64, aspect)
