# SPDX-License-Identifier: Apache-2.0
"""The simulated cell behind the Franka control interface, driven by the real client.

Durations are asserted in the robot's time: how fast that passes depends on the machine.
"""

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

franky = pytest.importorskip("franky", reason="FRANKY IS ABSENT: the cell is not tested with it")
from franky_sim.franka_robot_state import FrankaRobotState  # noqa: E402

from vjepa2_ros.simulation import SimulatorError  # noqa: E402
from vjepa2_ros.simulation.franka_cell import FrankaCell  # noqa: E402
from vjepa2_ros.simulation.franka_server import Checks  # noqa: E402
from vjepa2_ros.simulation.franka_state import STATE, Error  # noqa: E402
from vjepa2_ros.simulation.simulator import OBJECTS, Simulator, hand_rotation  # noqa: E402
from vjepa2_ros.tasks import load_task  # noqa: E402
from vjepa2_ros.tasks.task import TaskOptions, draw_episode  # noqa: E402

DEADLINE = 180.0
CLIENT = Path(__file__).with_name("franka_client.py")
BOX = OBJECTS.index("box")
FINGERTIPS = 0.05
"""What the fingertips of the scene are longer than the hand's own [m]."""
PATIENT = Checks(silence=0.5)
"""Of a cell whose tests do not want to fail where the machine keeps the client waiting."""
hosts = (f"127.{1 + os.getpid() % 250}.0.{number}" for number in itertools.count(1))
"""A new address for each server: tests run side by side."""


@pytest.fixture(scope="module")
def simulator():
    return Simulator()


@pytest.fixture
def start(simulator):
    simulator.reset(1)
    simulator.place(np.array([0.45, 0.0, 0.3]), hand_rotation(0.0), 0.0)


@pytest.fixture
def cell(simulator, start):
    with FrankaCell(simulator, PATIENT).serve(next(hosts)) as cell:
        yield cell


@pytest.fixture
def robot(cell):
    return connect(cell)


@pytest.fixture
def gripper(cell):
    return franky.Gripper(host_of(cell))


def host_of(cell):
    return cell._server.hostname


def connect(cell, controller_mode=franky.ControllerMode.JointImpedance):
    robot = franky.Robot(
        host_of(cell),
        controller_mode=controller_mode,
        relative_dynamics_factor=franky.RelativeDynamicsFactor(0.1, 0.1, 0.1),
        realtime_config=franky.RealtimeConfig.Ignore,
    )
    tool = np.eye(4)
    tool[2, 3] = FINGERTIPS
    robot.set_ee(tool.T.ravel())
    # The client goes on showing the state before for a moment.
    wait(lambda: np.allclose(robot.state.NE_T_EE.translation, tool[:3, 3], atol=1e-6))
    return robot


def wait(condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "not so before the deadline"
        time.sleep(0.002)


def motion(robot, *offset):
    pose = robot.state.O_T_EE
    target = franky.Affine(pose.translation + np.array(offset), pose.quaternion)
    return franky.CartesianMotion(target, franky.ReferenceType.Absolute), target


def move(robot, *offset):
    moving, target = motion(robot, *offset)
    robot.move(moving)
    return target.translation


def in_motion(robot, cell):
    """Start a long motion, and return when the arm is under way."""
    robot.move(motion(robot, 0.0, 0.0, 0.25)[0], asynchronous=True)
    wait(lambda: np.abs(robot.state.dq).max() > 0.02)


def time_to_rest(cell, event):
    """Robot time from an event until the arm stands still [s]."""
    assert cell.moving
    begun = cell.robot_time
    event()
    wait(lambda: not cell.moving)
    return cell.robot_time - begun


def test_the_state_has_the_layout_of_the_protocol():
    values = {name: np.arange(*STATE[name].shape or (1,)) for name in STATE.names}
    state = np.zeros(1, STATE)[0]
    fields = {}
    for number, (name, value) in enumerate(values.items()):
        if name in ("motion_generator_mode", "controller_mode", "robot_mode"):
            value = value + number % 4
        elif name in ("errors", "reflex_reason"):
            value = value % (2 + number % 2) == 0
        else:
            value = value + number
        scalar = not STATE[name].shape
        state[name] = value[0] if scalar else value
        fields[name] = value[0].item() if scalar else tuple(value.tolist())
    assert state.tobytes() == FrankaRobotState(**fields).pack_state()


@pytest.mark.parametrize("error", Error, ids=lambda error: error.name.lower())
def test_the_client_reads_each_error_under_its_name(error, cell, robot):
    cell._requests.put(lambda: cell._server.reflex(error))
    wait(lambda: getattr(robot.state.current_errors, error.name.lower()))
    assert robot.state.robot_mode == franky.RobotMode.Reflex


def test_the_tool_of_the_client_is_that_of_the_simulator(simulator, cell, robot):
    cell.update()
    position, quaternion, closedness = simulator.pose()
    pose = robot.state.O_T_EE
    np.testing.assert_allclose(pose.translation, position, atol=1e-5)
    assert abs(np.dot(pose.quaternion, quaternion)) == pytest.approx(1.0, abs=1e-6)
    assert closedness == pytest.approx(0.0, abs=1e-3)
    np.testing.assert_allclose(robot.state.q, simulator.measured(0.0).joint_positions, atol=1e-5)


def test_a_motion_ends_at_its_target(simulator, cell, robot):
    target = move(robot, 0.06, 0.05, -0.08)
    np.testing.assert_allclose(robot.state.O_T_EE.translation, target, atol=1e-3)
    cell.update()
    np.testing.assert_allclose(simulator.pose()[0], target, atol=1e-3)
    assert not robot.has_errors


def test_motions_that_preempt_each_other_end_at_the_last_target(cell, robot):
    start = robot.state.O_T_EE
    random = np.random.default_rng(0)
    for _ in range(6):
        target = franky.Affine(
            start.translation + random.uniform(-0.05, 0.05, 3), start.quaternion
        )
        robot.move(
            franky.CartesianMotion(target, franky.ReferenceType.Absolute), asynchronous=True
        )
        begun = cell.robot_time
        wait(lambda begun=begun: cell.robot_time > begun + 0.25)
    robot.join_motion()
    np.testing.assert_allclose(robot.state.O_T_EE.translation, target.translation, atol=1e-3)


def test_what_the_cell_starts_with_is_what_the_episode_starts_with(simulator):
    draw_episode(load_task("reach_with_object"), simulator, 3, TaskOptions("box"))
    objects, hand = simulator.object_positions(), simulator.pose()[0]
    assert simulator.held()[BOX]
    with FrankaCell(simulator, PATIENT).serve(next(hosts)) as cell:
        wait(lambda: cell.robot_time > 0.5)
        cell.update()
        np.testing.assert_allclose(simulator.object_positions(), objects, atol=5e-3)
        np.testing.assert_allclose(simulator.pose()[0], hand, atol=1e-3)
        assert simulator.held()[BOX]


def test_the_table_raises_a_reflex_and_the_arm_recovers(simulator, cell, robot):
    robot.set_collision_behavior(20.0, 20.0)
    move(robot, 0.0, 0.0, -0.25)
    with pytest.raises(franky.ControlException, match="cartesian_reflex"):
        move(robot, 0.0, 0.0, -0.10)
    state = robot.state
    assert state.robot_mode == franky.RobotMode.Reflex and state.current_errors.cartesian_reflex
    cell.update()
    assert simulator.pose()[0][2] > 0.0, "nothing is under the table's surface"
    with pytest.raises(franky.CommandException):
        move(robot, 0.0, 0.0, 0.05)
    robot.recover_from_errors()
    assert not robot.has_errors
    target = move(robot, 0.0, 0.0, 0.05)
    np.testing.assert_allclose(robot.state.O_T_EE.translation, target, atol=1e-3)


def test_the_external_force_is_what_the_hand_exerts(simulator, start):
    with FrankaCell(simulator, Checks(collisions=False, silence=0.5)).serve(next(hosts)) as cell:
        robot = connect(cell)
        move(robot, 0.0, 0.0, -0.302)
        wait(lambda: not cell.moving)
        begun = cell.robot_time
        wait(lambda: cell.robot_time > begun + 0.1)
        force = robot.state.O_F_ext_hat_K
        assert force[2] < -2.0 and not robot.has_errors
        np.testing.assert_allclose(robot.state.K_F_ext_hat_K[2], -force[2], rtol=0.01)


def test_a_soft_arm_presses_as_its_stiffness_says_and_is_exact_where_nothing_is(simulator, start):
    simulator.place(np.array([0.45, 0.0, 0.02]), hand_rotation(0.0), 0.0)
    with FrankaCell(simulator, PATIENT).serve(next(hosts)) as cell:
        robot = connect(cell, franky.ControllerMode.CartesianImpedance)
        robot.set_cartesian_impedance([1000.0] * 3 + [50.0] * 3)
        # The blow is harder than what remains.
        robot.set_collision_behavior(100.0, 100.0)
        target = move(robot, 0.0, 0.0, 0.05)
        wait(lambda: not cell.moving)
        np.testing.assert_allclose(robot.state.O_T_EE.translation, target, atol=1e-3)
        # Into the table.
        target = move(robot, 0.0, 0.0, -0.07)
        wait(lambda: np.abs(robot.state.dq).max() < 1e-3)
        state = robot.state
        short = state.O_T_EE.translation[2] - target[2]
        assert 0.003 < short < 0.03
        assert state.O_F_ext_hat_K[2] == pytest.approx(-1000.0 * short, rel=0.2)
        assert state.robot_mode == franky.RobotMode.Idle, "no reflex"


def test_the_box_is_grasped_and_carried(simulator, start):
    place = simulator.object_positions()[BOX]
    yaw = simulator.grasp_yaws()[BOX]
    simulator.place(np.array([*place[:2], 0.035]), hand_rotation(yaw), 0.0)
    with FrankaCell(simulator, PATIENT).serve(next(hosts)) as cell:
        robot, gripper = connect(cell), franky.Gripper(host_of(cell))
        assert gripper.grasp(0.03, 0.05, 20.0, epsilon_inner=0.005, epsilon_outer=0.005)
        assert gripper.width == pytest.approx(0.03, abs=2e-3) and gripper.is_grasped
        move(robot, 0.0, 0.0, 0.1)
        cell.update()
        assert simulator.held()[BOX] and simulator.commanded_closedness == 1.0
        assert simulator.object_positions()[BOX][2] == pytest.approx(place[2] + 0.1, abs=3e-3)
        assert gripper.open(0.05) and gripper.width == pytest.approx(0.08, abs=1e-3)
        wait(lambda: (cell.update(), not simulator.held()[BOX])[1])


@pytest.mark.parametrize(
    ("number", "wait_for"),
    [(signal.SIGKILL, "the end of the connection"), (signal.SIGSTOP, "20 ms without a packet")],
    ids=str,
)
def test_the_arm_comes_to_rest_when_its_client(number, wait_for, simulator, start):
    # SIGKILL ends the connection, so that the other check may be patient.
    silence = 0.02 if number == signal.SIGSTOP else 5.0
    with FrankaCell(simulator, Checks(silence=silence)).serve(next(hosts)) as cell:
        client = subprocess.Popen([sys.executable, CLIENT, host_of(cell)])
        try:
            wait(lambda: np.abs(cell._arm.dq_d).max() > 0.05)
            assert time_to_rest(cell, lambda: client.send_signal(number)) < 0.3, wait_for
            assert cell._arm.state["errors"][Error.COMMUNICATION_CONSTRAINTS_VIOLATION]
        finally:
            client.kill()
            client.wait(DEADLINE)
        wait(lambda: not cell._server.tcp_connected)
        robot = connect(cell)
        assert robot.state.current_errors.communication_constraints_violation
        robot.recover_from_errors()
        move(robot, 0.0, 0.0, -0.02)


def test_joints_beyond_their_limits_end_a_motion(cell, robot):
    with pytest.raises(franky.ControlException, match="joint_(position|velocity)_limits_violation"):
        move(robot, 0.7, 0.0, 0.0)
    robot.recover_from_errors()
    assert not robot.has_errors


def test_a_reflex_is_injected_in_mid_motion(cell, robot):
    in_motion(robot, cell)
    assert time_to_rest(cell, lambda: cell.switch("reflex", True)) < 0.3
    with pytest.raises(franky.ControlException, match="cartesian_reflex"):
        robot.join_motion()
    robot.recover_from_errors()
    move(robot, 0.0, 0.0, 0.01)


def test_the_user_stop_ends_a_motion_and_refuses_others_until_it_is_released(cell, robot):
    in_motion(robot, cell)
    assert time_to_rest(cell, lambda: cell.switch("user_stop", True)) < 0.3
    assert robot.state.robot_mode == franky.RobotMode.UserStopped
    with pytest.raises(franky.Exception):
        robot.join_motion()
    with pytest.raises(franky.CommandException):
        move(robot, 0.0, 0.0, -0.01)
    with pytest.raises(franky.CommandException):
        robot.recover_from_errors()
    cell.switch("user_stop", False)
    wait(lambda: robot.state.robot_mode == franky.RobotMode.Idle)
    move(robot, 0.0, 0.0, -0.01)


def test_a_blocked_gripper_answers_nothing_until_it_is_stopped(cell, gripper):
    cell.switch("gripper_blocked", True)
    wait(lambda: cell._arm.fingers_blocked)
    done = gripper.move_async(0.02, 0.05)
    begun = cell.robot_time
    wait(lambda: cell.robot_time > begun + 0.5)
    assert not done.wait(0.0) and gripper.width == pytest.approx(0.08, abs=1e-3)
    gripper.stop()
    with pytest.raises(franky.CommandException):
        assert done.wait(DEADLINE)
        done.get()
    cell.switch("gripper_blocked", False)
    assert gripper.move(0.02, 0.05) and gripper.width == pytest.approx(0.02, abs=1e-3)


def test_a_lost_connection_stops_the_arm_and_is_refused_until_it_is_restored(cell, robot):
    host = host_of(cell)
    in_motion(robot, cell)
    assert time_to_rest(cell, lambda: cell.switch("connection_lost", True)) < 0.3
    with pytest.raises(franky.Exception):
        robot.join_motion()
    with pytest.raises(franky.NetworkException):
        franky.Robot(host, realtime_config=franky.RealtimeConfig.Ignore)
    cell.switch("connection_lost", False)
    wait(lambda: accepts(host))
    robot = connect(cell)
    robot.recover_from_errors()
    move(robot, 0.0, 0.0, -0.01)


def accepts(host):
    with socket.socket() as trial:
        return trial.connect_ex((host, 1337)) == 0


def test_states_that_do_not_come_are_a_network_error(cell, robot):
    cell.switch("state_gone", True)
    with pytest.raises(franky.NetworkException):
        wait(lambda: robot.state is None)


@pytest.mark.parametrize("fault", ["state_frozen", "state_jumped", "state_not_finite"])
def test_the_client_is_shown(fault, cell, robot):
    before = robot.state.O_T_EE.translation
    cell.switch(fault, True)
    expected = {
        "state_frozen": before,
        "state_jumped": before + [0.3, 0.0, 0.0],
        "state_not_finite": np.full(3, np.nan),
    }[fault]
    wait(lambda: np.allclose(robot.state.O_T_EE.translation, expected, atol=1e-5, equal_nan=True))
    cell.switch(fault, False)
    wait(lambda: np.allclose(robot.state.O_T_EE.translation, before, atol=1e-5))


def test_an_address_that_is_taken_is_refused_with_what_to_do(simulator, cell):
    with pytest.raises(SimulatorError, match="is another server running there"):
        FrankaCell(simulator).serve(host_of(cell))


def test_what_is_no_command_ends_the_connection_and_not_the_simulation(cell):
    with socket.create_connection((host_of(cell), 1337), DEADLINE) as trial:
        trial.sendall(b"\xff" * 64)
        assert trial.recv(1) == b""
    begun = cell.robot_time
    wait(lambda: cell.robot_time > begun + 0.05)
    cell.update()
