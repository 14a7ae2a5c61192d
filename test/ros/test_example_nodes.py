# SPDX-License-Identifier: Apache-2.0
"""The examples that need ROS."""

import subprocess
import sys
from pathlib import Path

import pytest

from vjepa2_ros.robot.driver import RobotError
from vjepa2_ros.ros.conversions import image_array, seconds
from vjepa2_ros.ros.drivers import DriverContext, create_robot

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_example_camera_publishes_images_stamped_at_capture(bench):
    """`pattern_camera.py`, started as its docstring says."""
    camera = subprocess.Popen(
        [sys.executable, EXAMPLES / "pattern_camera.py", "--ros-args", "-r", "__ns:=/bench"]
    )
    try:
        mark = bench.mark("camera/image_raw")
        first = bench.wait("camera/image_raw", after=mark)
        second = bench.wait("camera/image_raw", after=bench.mark("camera/image_raw"))
        assert abs(bench.now() - seconds(second.header.stamp)) < 1.0
        assert seconds(first.header.stamp) < seconds(second.header.stamp)
        assert image_array(first).shape == (256, 256, 3)
        assert (image_array(first) != image_array(second)).any()
        assert camera.poll() is None
    finally:
        camera.terminate()
        camera.wait(10.0)


def test_the_example_driver_is_created_by_its_name(monkeypatch):
    """`robot_driver.py`, as the controller creates it."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    name = "robot_driver:StraightLineArm"
    options = {"speed": 0.2}
    context = DriverContext(lambda: 7.0, link=None, options=options)
    assert create_robot(name, context).read_state().stamp == 7.0
    options["speed"] = 0.0
    with pytest.raises(RobotError, match="above 0"):
        create_robot(name, context)
