# SPDX-License-Identifier: Apache-2.0
"""Faults of camera and measured state, as they reach the stack."""

import numpy as np
import pytest

from vjepa2_ros.robot.driver import RobotState
from vjepa2_ros.simulation.faults import (
    CAMERA_FAULTS,
    ROBOT_FAULTS,
    STATE_FAULTS,
    FaultError,
    Faults,
    FaultyCamera,
    FaultyStates,
)

NAMES = (*CAMERA_FAULTS, *STATE_FAULTS)


class Camera:
    """Takes images of 4 x 4 pixels that are as bright as their number."""

    def __init__(self):
        self.taken = 0
        self.faulty = FaultyCamera()

    def render(self):
        self.taken += 1
        return np.full((4, 4, 3), self.taken, np.uint8)

    def at(self, time, *faults):
        """Brightness, side and stamp of the image at a time; None without an image."""
        image = self.faulty.image(self.render, time, faults)
        return image and (image[0][0, 0, 0], len(image[0]), image[1])


@pytest.mark.parametrize(
    ("fault", "second", "third"),
    [
        ("frozen", (1, 4, 0.0), (1, 4, 0.0)),
        ("frozen_stamped", (1, 4, 0.5), (1, 4, 1.0)),
        ("slow", None, (2, 4, 1.0)),
        ("gone", None, None),
        ("resized", (2, 2, 0.5), (3, 2, 1.0)),
    ],
)
def test_a_camera_with_a_fault_and_after_it(fault, second, third):
    camera = Camera()
    assert camera.at(0.0) == (1, 4, 0.0)
    assert camera.at(0.5, fault) == second and camera.at(1.0, fault) == third
    assert camera.at(1.5) == (camera.taken, 4, 1.5) and camera.taken > 1


def state(stamp):
    return RobotState(np.array([0.5, 0.0, stamp / 10]), np.array([1.0, 0, 0, 0]), 0.0, stamp)


def test_states_with_a_fault_and_after_it():
    states = FaultyStates()
    assert states.state(state(1.0), ()).stamp == 1.0
    assert states.state(state(2.0), ("state_gone",)) is None
    frozen = states.state(state(3.0), ("state_frozen",))
    assert frozen.stamp == 1.0 and frozen.position[2] == 0.1
    assert states.state(state(4.0), ("state_from_the_future",)).stamp == 14.0
    assert "not finite" in states.state(state(5.0), ("state_not_finite",)).problem()
    jumped = states.state(state(6.0), ("state_jumped",))
    assert np.linalg.norm(jumped.position - state(6.0).position) == pytest.approx(0.3)
    assert states.state(state(7.0), ()).stamp == 7.0


def test_a_fault_ends_when_it_is_told_to_or_when_its_time_is_over():
    switched = []
    faults = Faults(NAMES, lambda name, on: switched.append((name, on)))
    faults.inject("gone", True, 0.0, 10.0)
    faults.inject("state_gone", True, 2.0, 10.0)
    assert faults.active(11.9) == ("gone", "state_gone") and faults.active(12.0) == ("gone",)
    assert "gone" in faults.inject("gone", False, 0.0, 13.0) and faults.active(13.0) == ()
    begun, ended = [("gone", True), ("state_gone", True)], [("state_gone", False), ("gone", False)]
    assert switched == begun + ended
    faults.inject("slow", True, 0.0, 14.0)
    assert "slow" in faults.inject("", False, 0.0, 14.0) and faults.active(14.0) == ()
    assert "nothing" in faults.inject("slow", False, 0.0, 14.0)


def test_a_reflex_is_over_at_once():
    switched = []
    faults = Faults((*ROBOT_FAULTS,), lambda name, on: switched.append((name, on)))
    for _ in range(2):
        faults.inject("reflex", True, 5.0, 0.0)
    assert faults.active(0.0) == () and switched == [("reflex", True)] * 2


@pytest.mark.parametrize(
    ("name", "duration", "why"),
    [
        ("reflex", 0.0, "needs the setting franka_server"),
        ("earthquake", 0.0, "is not known; here there are frozen, "),
        ("", 0.0, "is not known"),
        ("gone", -1.0, "the duration must be"),
        ("gone", float("nan"), "the duration must be"),
    ],
    ids=str,
)
def test_what_cannot_be_injected_is_refused_with_the_reason(name, duration, why):
    faults = Faults(NAMES)
    with pytest.raises(FaultError, match=why):
        faults.inject(name, True, duration, 0.0)
    assert faults.active(0.0) == ()
