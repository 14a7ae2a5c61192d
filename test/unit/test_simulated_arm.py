# SPDX-License-Identifier: Apache-2.0
"""The simulated arm as a driver: the motion controller moves it in simulated time."""

import numpy as np
import pytest

from vjepa2_ros.robot.controller import MotionController
from vjepa2_ros.robot.driver import RobotError
from vjepa2_ros.robot.safety import MotionCommand
from vjepa2_ros.settings.controller import MotionLimits
from vjepa2_ros.simulation.robot import SimulatedArm
from vjepa2_ros.simulation.simulator import DOWN, Simulator

START = np.array([0.5, 0.0, 0.25])


@pytest.fixture(scope="module")
def simulator():
    return Simulator()


@pytest.fixture
def arm(simulator):
    simulator.reset(1)
    simulator.place(START, DOWN, 0.0)
    return SimulatedArm(simulator, lambda: simulator.time)


def test_states_are_stamped_with_simulated_time(arm, simulator):
    before = arm.read_state()
    simulator.advance(0.5)
    after = arm.read_state()
    assert after.stamp - before.stamp == pytest.approx(0.5)
    np.testing.assert_allclose(after.position, START, atol=1e-3)


def test_the_motion_controller_brings_the_arm_to_its_target_in_simulated_time(arm, simulator):
    controller = MotionController(arm, MotionLimits(), planner_timeout=2.0)
    controller.tick(simulator.time, simulator.time)
    target = START + [0.05, -0.05, 0.05]
    command = MotionCommand("goal", 1, simulator.time, target, DOWN.as_quat(), 0.0, frame="base")
    assert controller.command(command, simulator.time, simulator.time).accepted
    while controller.moving and simulator.time < 2.0:
        simulator.advance(0.02)
        controller.tick(simulator.time, simulator.time)
    assert simulator.time < 1.0 and not controller.fault
    np.testing.assert_allclose(arm.read_state().position, target, atol=5e-3)


def test_a_stop_in_mid_motion_brakes_and_holds(arm, simulator):
    arm.move_to(START + [0.1, 0.0, 0.0], DOWN.as_quat(), 0.0)
    simulator.advance(0.3)
    arm.stop()
    simulator.advance(0.6)
    held = arm.read_state().position
    assert held[0] < START[0] + 0.09
    simulator.advance(0.5)
    np.testing.assert_allclose(arm.read_state().position, held, atol=5e-4)


def test_a_target_that_is_not_finite_is_refused_as_a_driver_refuses(arm):
    with pytest.raises(RobotError, match="finite"):
        arm.move_to(np.full(3, np.nan), DOWN.as_quat(), 0.0)
