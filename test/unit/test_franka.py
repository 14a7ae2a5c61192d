# SPDX-License-Identifier: Apache-2.0
"""The driver of the Franka arm: the real client against a server of the real protocol.

Speeds are the robot's own: the server runs slower than real time on a busy machine.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest

from vjepa2_ros.robot.controller import MotionController
from vjepa2_ros.robot.driver import RobotError, RobotMode
from vjepa2_ros.robot.franka import FrankaRobot
from vjepa2_ros.robot.franka_elbow import ELBOW
from vjepa2_ros.robot.franka_recovery import FrankaRecovery
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.settings.controller import MotionLimits
from vjepa2_ros.settings.franka import FrankaSettings

pytest.importorskip("franky", reason="the Franka client has no wheel for this machine")

SERVER = """
import sys
import numpy as np
from vjepa2_ros.simulation.franka_cell import FrankaCell
from vjepa2_ros.simulation.simulator import Simulator, hand_rotation

simulator = Simulator()
simulator.reset(1)
simulator.place(np.array([0.45, 0.0, 0.25]), hand_rotation(0.0), 0.5)
with FrankaCell(simulator).serve(sys.argv[1]) as cell:
    print("serving", flush=True)
    for line in sys.stdin:
        fault, active = line.split()
        cell.switch(fault, active == "on")
"""
# One loopback address for each server of this process and of those beside it.
ADDRESSES = (f"127.{os.getpid() % 250 + 1}.{os.getpid() // 250 % 250}.{n}" for n in count(1))


class Server:
    """The simulated cell behind the protocol, in a process that can be killed and started again."""

    def __init__(self, host):
        self.host = host
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, self.host],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == "serving\n"

    def switch(self, fault, active=True):
        """Begin or end a fault of the arm; see `simulation/faults.py`."""
        self.process.stdin.write(f"{fault} {'on' if active else 'off'}\n")
        self.process.stdin.flush()

    def kill(self):
        self.process.kill()
        self.process.wait()


def settings_of(server, **changes):
    return FrankaSettings(host=server.host, realtime=False, **changes)


@contextmanager
def serving():
    server = Server(next(ADDRESSES))
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def driving(server, **changes):
    robot = FrankaRobot(time.time, settings_of(server, **changes))
    try:
        yield robot
    finally:
        robot.close()


@pytest.fixture(scope="module")
def server():
    with serving() as server:
        yield server


@pytest.fixture
def robot(server):
    with driving(server) as robot:
        yield robot


def wait_for(condition, timeout=90.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def settled(robot, target, timeout=90.0):
    wait_for(lambda: np.abs(robot.read_state().position - target).max() < 1e-3, timeout)


def test_it_moves_to_absolute_poses_and_a_new_one_preempts_the_last(robot):
    start = robot.read_state()
    first, second = start.position + [0.0, 0.0, 0.06], start.position + [0.05, 0.0, 0.0]
    robot.move_to(first, start.quaternion_xyzw, 0.5)
    wait_for(lambda: robot.read_state().position[2] > start.position[2] + 0.01)
    robot.move_to(second, start.quaternion_xyzw, 0.5)
    settled(robot, second)
    state = robot.read_state()
    assert state.mode is RobotMode.READY and not state.problem()
    np.testing.assert_allclose(state.quaternion_xyzw, start.quaternion_xyzw, atol=5e-3)


def test_two_ways_to_a_pose_end_with_the_same_posture(server):
    """The camera sees the whole arm: it has to look the same wherever it came from."""
    found = []
    with driving(server) as robot:
        start = robot.read_state()
        for places in (((0.10, 0.15, 0.0),), ((0.0, -0.15, 0.1), (0.10, 0.0, 0.0))):
            for place in (*places, (0.10, 0.15, 0.0), (0.10, 0.15, 0.0)):
                robot.move_to(start.position + place, start.quaternion_xyzw, 0.0)
                settled(robot, start.position + place)
                wait_for(lambda: np.abs(robot.read_state().joint_velocities).max() < 1e-3)
            found.append(robot.read_state().joint_positions)
            robot.move_to(start.position, start.quaternion_xyzw, 0.0)
            settled(robot, start.position)
    np.testing.assert_allclose(found[0], found[1], atol=0.02)
    assert abs(found[0][ELBOW]) > 0.05, "left where it was, the elbow would be there, too"


def test_its_speed_stays_below_the_limit_and_a_stop_brakes_at_once(robot):
    start = robot.read_state()
    robot.move_to(start.position + [0.0, 0.25, 0.0], start.quaternion_xyzw, 0.5)
    wait_for(lambda: robot.read_state().position[1] > start.position[1] + 0.1)
    assert 0.2 < speed_of(robot) < 0.251
    before = robot.read_state().position
    for _ in range(20):
        robot.stop()  # again and again, as watchdogs do that have not seen its effect yet
        time.sleep(0.005)
    wait_for(lambda: speed_of(robot) < 1e-3)
    way = np.linalg.norm(robot.read_state().position - before)
    # 0.25 m/s is braked with 2.7 m/s² in 1.2 cm; the rest is the age of the first state.
    assert 0.008 < way < 0.025
    robot.stop()  # at rest, this does nothing
    assert speed_of(robot) < 1e-3


@pytest.mark.parametrize("way", [(0.1, 0.1, 0.1), (0.12, -0.12, 0.0)])
@pytest.mark.parametrize("stops", [False, True])
def test_along_a_diagonal_it_is_not_faster_than_along_an_axis(robot, way, stops):
    start = robot.read_state()
    robot.move_to(start.position + way, start.quaternion_xyzw, 0.5)
    speeds, halfway = [], start.position + np.array(way) / 2

    def over():
        state = robot.read_state()
        speeds.append(speed_of(robot))
        if stops and np.linalg.norm(state.position - halfway) < 0.02:
            robot.stop()
        return max(speeds) > 0.15 and speeds[-1] < 1e-3

    wait_for(over)
    assert max(speeds) < 0.255
    assert (np.linalg.norm(robot.read_state().position - start.position - way) > 0.02) == stops
    robot.move_to(start.position, start.quaternion_xyzw, 0.5)
    settled(robot, start.position)


def speed_of(robot):
    """Commanded velocity of the tool centre point [m/s], which no clock of this machine blurs."""
    return np.linalg.norm(robot._arm.state.O_dP_EE_c.linear)


def test_a_stop_right_after_the_command_to_move_is_not_lost(robot):
    start = robot.read_state()
    for _ in range(5):
        robot.move_to(start.position + [0.0, 0.0, 0.15], start.quaternion_xyzw, 0.5)
        robot.stop()
        began = robot.read_state().stamp
        wait_for(lambda: robot.read_state().stamp > began + 0.4)  # noqa: B023
        assert speed_of(robot) < 1e-3
        assert np.abs(robot.read_state().position - start.position).max() < 0.01


def test_it_says_what_the_arm_is(robot):
    description = robot.describe()
    assert description.name.startswith("Franka Research 3 at 127.")
    assert (description.max_speed, description.gripper_stroke) == (0.25, 0.08)
    state = robot.read_state()
    assert len(description.joint_names) == len(state.joint_positions) == 7
    assert (description.joint_lower < state.joint_positions).all()
    assert (state.joint_positions < description.joint_upper).all()
    assert state.wrench.shape == (6,)


def test_the_arms_own_limits_are_set_before_the_first_motion(robot):
    arm = robot._arm
    assert arm.translation_acceleration_limit.get() == 9.0
    assert arm.translation_jerk_limit.get() == 4500.0
    assert arm.rotation_acceleration_limit.get() == 17.0


def test_the_tool_centre_point_is_moved_by_its_offset(server):
    with driving(server) as robot:
        plain = robot.read_state().position
    with driving(server, tool_offset=(0.0, 0.0, 0.05)) as robot:
        longer = robot.read_state().position
    with driving(server) as robot:
        np.testing.assert_allclose(robot.read_state().position, plain, atol=1e-3)
    # The hand points down.
    np.testing.assert_allclose(longer - plain, [0.0, 0.0, -0.05], atol=2e-3)


def test_the_fingers_go_to_the_opening_of_a_closedness(robot):
    state = robot.read_state()
    for closedness in (0.0, 0.75):
        robot.move_to(state.position, state.quaternion_xyzw, closedness)
        wait_for(lambda: not robot.read_state().gripper_moving)
        wait_for(lambda: abs(robot.read_state().gripper_closedness - closedness) < 0.03)  # noqa: B023
        state = robot.read_state()
        assert state.commanded_closedness == closedness and state.gripper_problem == ""


def test_a_target_that_is_not_finite_is_refused_before_it_reaches_the_arm(robot):
    state = robot.read_state()
    with pytest.raises(RobotError, match="not finite"):
        robot.move_to(np.array([np.nan, 0, 0]), state.quaternion_xyzw, 0.5)
    assert robot.read_state().mode is RobotMode.READY


def test_a_caller_that_falls_silent_in_motion_leaves_an_arm_at_rest(robot):
    start = robot.read_state()
    robot.move_to(start.position - [0.0, 0.35, 0.0], start.quaternion_xyzw, 0.5)
    wait_for(lambda: speed_of(robot) > 0.05)
    # From here on nobody reads the state: the arm must not use the whole way.
    wait_for(lambda: speed_of(robot) < 1e-3)
    assert robot.read_state().position[1] > start.position[1] - 0.34


def test_a_lost_connection_is_a_fault_and_its_return_waits_for_a_person():
    with serving() as server, driving(server) as robot:
        controller = MotionController(robot, MotionLimits(), planner_timeout=10.0)

        def tick():
            controller.tick(time.time(), time.monotonic())
            return controller

        wait_for(lambda: tick().state is not None)
        server.kill()
        wait_for(lambda: tick().fault)
        assert controller.fault_reason in (Reason.ROBOT_UNREADABLE, Reason.STATE_STALE)
        wait_for(lambda: "is lost" in unreadable(robot))
        for call in (robot.stop, robot.recover):
            with pytest.raises(RobotError, match="is lost"):
                call()
        assert not controller.reset_fault(time.time())
        server.start()
        wait_for(lambda: not unreadable(robot))
        assert robot.read_state().mode is RobotMode.FAULTED
        with pytest.raises(RobotError, match="is back"):
            robot.move_to(np.zeros(3), np.array([1.0, 0, 0, 0]), 0.5)
        tick()
        assert controller.fault
        assert controller.reset_fault(time.time())
        wait_for(lambda: tick().state.mode is RobotMode.READY)
        assert not controller.fault
        state = robot.read_state()
        robot.move_to(state.position + [0.0, 0.0, -0.03], state.quaternion_xyzw, 0.5)
        settled(robot, state.position + [0.0, 0.0, -0.03])


def unreadable(robot):
    try:
        robot.read_state()
    except RobotError as error:
        return str(error)
    return ""


def test_a_server_that_hangs_is_noticed_within_the_age_of_a_state():
    with serving() as server, driving(server) as robot:
        server.process.send_signal(signal.SIGSTOP)
        try:
            # No state is repeated with a new stamp, and no call waits for the arm.
            wait_for(lambda: unreadable(robot) or time.time() - robot.read_state().stamp > 0.3)
            begun = time.monotonic()
            with pytest.raises(RobotError):
                robot.stop()
            assert time.monotonic() - begun < 0.5
        finally:
            server.process.send_signal(signal.SIGCONT)


def mode(robot):
    return robot.read_state().mode


def test_a_reflex_is_cleared_by_itself_a_limited_number_of_times(server):
    with driving(server, max_recoveries=2) as robot:
        for _ in range(2):
            server.switch("reflex")
            wait_for(lambda: mode(robot) is RobotMode.RECOVERING)
            with pytest.raises(RobotError, match="not ready: the arm stopped by reflex"):
                robot.move_to(np.zeros(3), np.array([1.0, 0, 0, 0]), 0.5)
            wait_for(lambda: mode(robot) is RobotMode.READY)
        server.switch("reflex")
        wait_for(lambda: mode(robot) is RobotMode.FAULTED)
        assert "after 2 recoveries within 60 s" in robot.read_state().mode_text
        robot.recover()
        assert mode(robot) is not RobotMode.FAULTED, "it would be taken for the next fault"
        wait_for(lambda: mode(robot) is RobotMode.READY)


def test_without_recoveries_each_reflex_waits_for_a_person_who_clears_it_by_one_reset(server):
    with driving(server, max_recoveries=0) as robot:
        for _ in range(2):
            server.switch("reflex")
            wait_for(lambda: mode(robot) is RobotMode.FAULTED)
            robot.recover()
            wait_for(lambda: mode(robot) is RobotMode.READY)


def test_an_arm_that_does_not_follow_its_command_is_a_fault(server):
    """Held so softly that what it meets stays below the thresholds of a reflex."""
    soft = dict(translation_stiffness=300.0, force_threshold=100.0, torque_threshold=100.0)
    with driving(server, **soft) as robot:
        start = robot.read_state()
        robot.move_to(start.position * [1.0, 1.0, 0.0] - [0.0, 0.0, 0.1], start.quaternion_xyzw, 1)
        wait_for(lambda: robot.read_state().mode is RobotMode.FAULTED)
        assert "cm from where it is commanded" in robot.read_state().mode_text
        robot.stop()
        wait_for(lambda: np.abs(robot.read_state().joint_velocities).max() < 1e-3)
        robot.recover()
        wait_for(lambda: robot.read_state().mode is RobotMode.READY)
        robot.move_to(start.position, start.quaternion_xyzw, 0.5)
        settled(robot, start.position)


def test_a_state_that_does_not_change_in_motion_is_not_given_a_new_stamp():
    with serving() as server, driving(server) as robot:
        start = robot.read_state()
        robot.move_to(start.position + [0.0, -0.2, 0.0], start.quaternion_xyzw, 0.5)
        wait_for(lambda: robot.read_state().position[1] < start.position[1] - 0.05)
        server.switch("state_frozen")
        wait_for(lambda: time.time() - robot.read_state().stamp > 0.3)
        server.switch("state_frozen", False)
        wait_for(lambda: time.time() - robot.read_state().stamp < 0.1)


def test_the_elbow_stays_where_it_is_while_the_hand_does(server):
    with driving(server) as robot:
        start = robot.read_state()
        robot.move_to(start.position + [0.1, 0.15, 0.0], start.quaternion_xyzw, 0.0)
        settled(robot, start.position + [0.1, 0.15, 0.0])
        before = robot.read_state()
        robot.move_to(before.position, before.quaternion_xyzw, 1.0)
        wait_for(lambda: not robot.read_state().gripper_moving)
        after = robot.read_state()
        np.testing.assert_allclose(after.joint_positions, before.joint_positions, atol=2e-3)
        robot.move_to(start.position, start.quaternion_xyzw, 0.5)
        settled(robot, start.position)


def test_the_user_stop_is_survived_and_motion_resumes_from_where_the_arm_is(server, robot):
    start = robot.read_state()
    target = start.position + [0.1, 0.0, 0.0]
    robot.move_to(target, start.quaternion_xyzw, 0.5)
    wait_for(lambda: speed_of(robot) > 0.05)
    server.switch("user_stop")
    try:
        wait_for(lambda: mode(robot) is RobotMode.USER_STOPPED)
        wait_for(lambda: abs(robot.read_state().joint_velocities).max() < 1e-3)
        with pytest.raises(RobotError, match="user stop is pressed"):
            robot.move_to(target, start.quaternion_xyzw, 0.5)
    finally:
        server.switch("user_stop", False)
    wait_for(lambda: mode(robot) is RobotMode.READY)
    held = robot.read_state().position
    assert start.position[0] < held[0] < target[0] - 0.01
    robot.move_to(start.position, start.quaternion_xyzw, 0.5)
    settled(robot, start.position)


@pytest.mark.parametrize("by", ["UserStopped", "Guiding"])
def test_a_motion_that_a_person_ended_is_no_reflex(by, monkeypatch):
    """Where no reflex is cleared by itself, each user stop in motion would latch a fault."""
    import franky

    monkeypatch.setattr("vjepa2_ros.robot.franka_recovery.deviation", lambda measured: 0.0)
    recovery = FrankaRecovery(FrankaSettings(max_recoveries=0))
    recovery.motion_error = "motion aborted by user stop"
    stopped = SimpleNamespace(robot_mode=getattr(franky.RobotMode, by))
    assert recovery.mode_of(None, stopped)[0] is RobotMode.USER_STOPPED
    released = SimpleNamespace(robot_mode=franky.RobotMode.Idle)
    assert recovery.mode_of(None, released) == (RobotMode.READY, "")


def test_blocked_fingers_are_named_and_delay_neither_arm_nor_stop(server):
    with driving(server, gripper_timeout=0.5) as robot:
        start = robot.read_state()
        server.switch("gripper_blocked")
        try:
            told = 0.1 if start.gripper_closedness > 0.5 else 0.9
            robot.move_to(start.position + [0.0, 0.0, 0.03], start.quaternion_xyzw, told)
            begun = time.monotonic()
            robot.stop()
            assert time.monotonic() - begun < 0.2
            wait_for(lambda: not robot.read_state().gripper_moving)
            robot.move_to(start.position + [0.0, 0.0, 0.03], start.quaternion_xyzw, told)
            settled(robot, start.position + [0.0, 0.0, 0.03])
            wait_for(lambda: robot.read_state().gripper_problem)
            assert "did not come to an end" in robot.read_state().gripper_problem
        finally:
            server.switch("gripper_blocked", False)
        robot.recover()
        assert robot.read_state().gripper_problem == ""
        wait_for(lambda: mode(robot) is RobotMode.READY)
        robot.move_to(start.position, start.quaternion_xyzw, told)
        wait_for(lambda: abs(robot.read_state().gripper_closedness - told) < 0.05)


def test_a_stop_stops_fingers_in_motion_and_not_those_that_hold(server):
    with driving(server, gripper_speed=0.02) as robot:
        start = robot.read_state()
        here = start.position, start.quaternion_xyzw
        told = 0.0 if start.gripper_closedness > 0.5 else 1.0
        robot.move_to(*here, told)
        begun = start.gripper_closedness
        wait_for(lambda: abs(robot.read_state().gripper_closedness - begun) > 0.1)
        assert robot.read_state().gripper_moving
        begun = time.monotonic()
        robot.stop()
        assert time.monotonic() - begun < 0.2
        wait_for(lambda: not robot.read_state().gripper_moving)
        stopped = robot.read_state()
        assert 0.1 < abs(stopped.gripper_closedness - told), "they did not go on to the end"
        assert stopped.gripper_problem == "" and abs(stopped.commanded_closedness - told) > 0.05
        robot.move_to(*here, told)
        wait_for(lambda: abs(robot.read_state().gripper_closedness - told) < 0.05)
        wait_for(lambda: not robot.read_state().gripper_moving)
        robot.stop()
        assert robot.read_state().commanded_closedness == told


def test_an_arm_that_is_not_there_is_named_with_what_to_do():
    with pytest.raises(RobotError, match="preflight --robot-ip 127.0.0.1`"):
        FrankaRobot(time.time, FrankaSettings(host="127.0.0.1", realtime=False))


@pytest.mark.parametrize("model", ["fr3", "panda"])
def test_the_limits_of_a_model_are_in_its_description(server, model):
    with driving(server, model=model) as robot:
        assert robot.describe().joint_names[0] == f"{model}_joint1"
