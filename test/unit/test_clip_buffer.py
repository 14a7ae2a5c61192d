# SPDX-License-Identifier: Apache-2.0
"""Which images of a stream make the newest clip."""

import pytest

from vjepa2_ros.video.buffer import ClipBuffer


def stamps_of(buffer):
    clip = buffer.clip()
    return None if clip is None else [stamp for stamp, _ in clip]


def test_a_clip_holds_the_newest_images():
    buffer = ClipBuffer(3, 10.0)
    kept = [buffer.add(0.1 * number, number) for number in range(5)]
    assert kept == [True] * 5
    assert buffer.clip() == [(pytest.approx(0.1 * n), n) for n in (2, 3, 4)]


def test_there_is_no_clip_before_it_is_full():
    buffer = ClipBuffer(3, 10.0)
    for number in range(2):
        buffer.add(0.1 * number, number)
    assert buffer.clip() is None


@pytest.mark.parametrize("rate", [30.0, 29.0, 11.0])
def test_images_of_a_faster_camera_are_left_out_so_that_the_rate_is_met(rate):
    buffer = ClipBuffer(1000, 7.5)
    kept = sum(buffer.add(100.0 + number / rate, number) for number in range(round(10 * rate)))
    assert kept == pytest.approx(75, abs=2)


def test_jitter_of_a_camera_of_the_rate_leaves_nothing_out():
    buffer = ClipBuffer(8, 10.0)
    jitter = [0.0, 0.02, -0.02, 0.01, -0.01, 0.02, 0.0, -0.02]
    assert all(buffer.add(5.0 + 0.1 * n + j, n) for n, j in enumerate(jitter))


@pytest.mark.parametrize("then", [0.05, 9.0])
def test_a_clip_does_not_span_a_jump_back_or_a_pause(then):
    buffer = ClipBuffer(2, 10.0)
    buffer.add(0.1, "a")
    buffer.add(0.2, "b")
    assert buffer.add(then, "c") and buffer.clip() is None and buffer.restarts == 1
    buffer.add(then + 0.1, "d")
    assert [image for _, image in buffer.clip()] == ["c", "d"]


def test_an_image_that_comes_twice_is_kept_once():
    buffer = ClipBuffer(2, 10.0)
    assert buffer.add(0.1, "a") and not buffer.add(0.1, "a") and buffer.restarts == 0
