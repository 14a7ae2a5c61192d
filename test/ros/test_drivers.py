# SPDX-License-Identifier: Apache-2.0
"""The registry of robot drivers; no process is started."""

import pytest

from vjepa2_ros.robot.driver import RobotError
from vjepa2_ros.ros.drivers import DriverContext, create_robot


class Arm:
    """A driver outside the package, with two parameters."""

    def __init__(self, clock, host="localhost", speed=0.1):
        if host == "nowhere":
            raise RobotError("no arm at nowhere; see the cable")
        if host == "broken":
            raise OSError("no route to host")
        self.clock, self.host, self.speed = clock, host, speed

    def describe(self): ...
    def read_state(self): ...
    def move_to(self, position, quaternion_xyzw, gripper_closedness): ...
    def stop(self): ...
    def recover(self): ...
    def close(self): ...


class NotAnArm:
    def read_state(self): ...
    def move_to(self, position, quaternion_xyzw, gripper_closedness): ...
    def close(self): ...


def context(**options):
    return DriverContext(lambda: 12.5, link=None, options=options)


def test_a_driver_of_another_package_gets_the_clock_and_its_own_parameters():
    arm = create_robot("test_drivers:Arm", context(host="172.16.0.2", speed=0.2))
    assert (arm.clock(), arm.host, arm.speed) == (12.5, "172.16.0.2", 0.2)


@pytest.mark.parametrize(
    "name, options, text",
    [
        ("simulater", {}, "unknown robot 'simulater'; known: simulator, franka, or module"),
        ("simulator", {"host": "x"}, "takes no robot_options: ['host']"),
        ("no_such_module:Arm", {}, "cannot be imported: No module named 'no_such_module'"),
        ("test_drivers:Leg", {}, "cannot be imported: module 'test_drivers' has no attribute"),
        ("test_drivers:NotAnArm", {}, "is not a driver: it lacks describe, stop, recover"),
        ("test_drivers:Arm", {"hots": "x"}, "unexpected keyword argument 'hots'"),
    ],
)
def test_a_driver_that_cannot_be_used_is_refused_with_the_reason(name, options, text):
    with pytest.raises(ValueError) as refused:
        create_robot(name, context(**options))
    assert text in str(refused.value)


@pytest.mark.parametrize("host, text", [("nowhere", "see the cable"), ("broken", "no route")])
def test_a_robot_that_cannot_be_reached_says_so_as_a_driver_does(host, text):
    with pytest.raises(RobotError, match=text):
        create_robot("test_drivers:Arm", context(host=host))
