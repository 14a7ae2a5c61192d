# SPDX-License-Identifier: Apache-2.0
"""Which two hosts fit together, and the measure of what is between them."""

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 IS ABSENT: the nodes' framework is not tested")
from vjepa2_ros.camera.decoding import decode_image  # noqa: E402
from vjepa2_ros.ros.compatibility import (  # noqa: E402
    MAX_CLOCK_OFFSET,
    build_problem,
    clock_problem,
    identity,
    own_build,
)
from vjepa2_ros.ros.image_transport import LinkMeter, jpeg  # noqa: E402


def test_a_process_fits_itself_and_says_all_of_it_in_its_heartbeat():
    assert build_problem(own_build(), identity()) == ""
    assert all(own_build().values())


@pytest.mark.parametrize("name", ["ros_distro", "rmw", "version", "interfaces"])
@pytest.mark.parametrize("value", ["another", ""])
def test_what_differs_is_named_with_both_values_and_what_to_do(name, value):
    problem = build_problem(own_build(), {**identity(), name: value})
    assert f"its {name} is {value or 'unknown'}, here it is {own_build()[name]}" in problem
    assert "same" in problem and ";" not in problem


@pytest.mark.parametrize("offset", [-2 * MAX_CLOCK_OFFSET, 2 * MAX_CLOCK_OFFSET])
def test_clocks_that_differ_are_refused_with_the_direction(offset):
    assert clock_problem(offset / 4) == ""
    problem = clock_problem(offset)
    assert f"0.20 s {'behind' if offset > 0 else 'ahead'}" in problem and "chrony" in problem


def test_latency_and_bandwidth_are_those_of_the_last_seconds():
    meter = LinkMeter()
    meter.add(10**9, 60.0, 0.0)
    assert meter.values() == {}
    for number in range(101):
        meter.add(125_000, 0.02, 10.0 + 0.1 * number)
    values = {name: float(value) for name, value in meter.values().items()}
    assert values["image_latency_ms"] == pytest.approx(20.0)
    assert values["image_mbit_s"] == pytest.approx(10.0)


def test_a_compressed_image_is_smaller_and_almost_the_same_in_the_same_order_of_channels():
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 0], image[..., 1] = ramp[:, None], ramp
    data = jpeg(image, 90)
    assert len(data) < image.nbytes / 4
    difference = decode_image(bytes(data), 10**6).astype(int) - image
    assert np.abs(difference).mean() < 5
