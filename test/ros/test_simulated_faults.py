# SPDX-License-Identifier: Apache-2.0
"""simulator_node when things go wrong: its driver dies, faults are injected, franky drives it."""

import os
import signal

import numpy as np
import pytest
from geometry_msgs.msg import Point, Pose
from probe import DEADLINE, Probe
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from vjepa2_ros.msg import Command, PlanningStatus, RobotState, SimulatorTruth
from vjepa2_ros.ros.conversions import duration, seconds, stamp
from vjepa2_ros.ros.qos import COMMAND, LATCHED, LATEST, STREAM
from vjepa2_ros.simulation.simulator import SimulatorConfig
from vjepa2_ros.srv import InjectFault
from vjepa2_ros.stack.process_group import ProcessGroup

PERIOD = SimulatorConfig().control_period


def listening(namespace):
    probe = Probe(namespace)
    for message_type, topic, qos in (
        (RobotState, "simulator/state", STREAM),
        (RobotState, "robot_state", STREAM),
        (SimulatorTruth, "simulator/truth", STREAM),
        (Image, "camera/image_raw", LATEST),
        (CameraInfo, "camera/camera_info", LATEST),
    ):
        probe.listen(message_type, topic, qos)
    return probe


@pytest.fixture(scope="module")
def simulator():
    """Scene 2 starts high above the table."""
    probe = listening("/faulty")
    try:
        with ProcessGroup() as group:
            parameters = {"seed": 2, "max_speed": 0.1, "image_size": 64}
            bring_up(group, probe, "simulator_node", parameters)
            yield probe
    finally:
        probe.close()


def bring_up(group, probe, name, parameters):
    node = group.start_node(name, parameters, namespace=probe.node.get_namespace())
    assert probe.change(name, "configure") and probe.change(name, "activate")
    return node


def inject(probe, fault, active=True, duration=0.0):
    request = InjectFault.Request(fault=fault, active=active, duration=duration)
    return probe.call(InjectFault, "simulator/inject_fault", request)


def at_rest(state):
    return not state.moving and np.abs(state.joint_velocities).max() < 0.01


@pytest.fixture
def controller(simulator):
    probe = simulator
    statuses = probe.node.create_publisher(PlanningStatus, "status", LATCHED)
    timer = probe.node.create_timer(0.05, lambda: statuses.publish(PlanningStatus()))
    with ProcessGroup() as group:
        yield bring_up(group, probe, "controller_node", {})
        group.processes["controller_node"].send(signal.SIGKILL)
    probe.run(lambda: (probe.node.destroy_timer(timer), probe.node.destroy_publisher(statuses)))


def test_the_arm_comes_to_rest_when_its_controller_hangs_or_is_killed(simulator, controller):
    for number, way in ((signal.SIGSTOP, 0.07), (signal.SIGKILL, -0.07)):
        target = start_motion(simulator, str(number), way)
        mark = simulator.mark("simulator/state")
        controller.send(number)
        rest = simulator.wait("simulator/state", at_rest, after=mark)
        # Simulated time: on a machine that cannot keep up, the simulated world runs slower.
        states = simulator.messages("simulator/state", mark)
        assert (states.index(rest) + 1) * PERIOD < 0.5
        assert abs(rest.pose.position.z - target) > 0.004, "it went on to the end of its step"
        controller.send(signal.SIGCONT)


def start_motion(probe, goal, way):
    """Have the hand moved up or down, and return its target height when it is under way."""
    asked = probe.now()
    start = probe.wait("robot_state", lambda state: seconds(state.header.stamp) > asked)
    position = start.pose.position
    command = Command(
        header=Header(stamp=stamp(probe.now()), frame_id="base"),
        goal_id=goal,
        sequence=1,
        pose=Pose(
            position=Point(x=position.x, y=position.y, z=position.z + way),
            orientation=start.pose.orientation,
        ),
        lifetime=duration(5.0),
    )
    probe.publish("command", command, COMMAND)
    probe.wait("simulator/state", lambda s: abs(s.pose.position.z - position.z) > 0.01)
    return position.z + way


def test_faults_of_the_camera_are_injected_and_end(simulator):
    probe = simulator
    assert inject(probe, "frozen").success
    repeated = probe.wait("camera/image_raw")
    again = probe.wait("camera/image_raw")
    assert again.header.stamp == repeated.header.stamp and again.data == repeated.data
    assert "frozen" in inject(probe, "frozen", active=False).message
    probe.wait("camera/image_raw", lambda image: image.header.stamp != again.header.stamp)
    assert inject(probe, "resized", duration=1.0).success
    assert probe.wait("camera/image_raw", lambda image: image.width == 32).height == 32
    info = probe.wait("camera/camera_info", lambda info: info.width == 32)
    assert info.k[2] == 16.0
    probe.wait("camera/image_raw", lambda image: image.width == 64)


def test_faults_of_the_measured_state_are_injected_and_all_end_at_once(simulator):
    probe = simulator
    before = probe.wait("simulator/state").pose.position
    assert inject(probe, "state_jumped").success and inject(probe, "state_from_the_future").success
    state = probe.wait(
        "simulator/state", lambda state: abs(state.pose.position.x - before.x - 0.3) < 1e-3
    )
    assert seconds(state.header.stamp) > probe.now() + 5.0
    assert inject(probe, "", active=False).success
    probe.wait("simulator/state", lambda state: abs(state.pose.position.x - before.x) < 1e-3)


@pytest.mark.parametrize("fault", ["user_stop", "earthquake"])
def test_a_fault_that_this_cell_cannot_have_is_refused_with_those_that_it_can(fault, simulator):
    answer = inject(simulator, fault)
    assert not answer.success and fault in answer.message and "state_gone" in answer.message


def test_franky_drives_the_cell_that_images_and_truth_show():
    franky = pytest.importorskip("franky")
    host = f"127.{1 + os.getpid() % 250}.1.1"
    probe = listening("/franka")
    try:
        with ProcessGroup() as group:
            parameters = {"franka_server": host, "franka_silence": 0.5, "seed": 2, "image_size": 64}
            bring_up(group, probe, "simulator_node", parameters)
            before = probe.wait("simulator/truth").hand
            image = probe.wait("camera/image_raw")
            robot = franky.Robot(
                host, relative_dynamics_factor=0.1, realtime_config=franky.RealtimeConfig.Ignore
            )
            pose = robot.state.O_T_EE
            lift = franky.Affine(pose.translation + [0.0, 0.0, 0.05], pose.quaternion)
            robot.move(franky.CartesianMotion(lift, franky.ReferenceType.Absolute))
            probe.wait("simulator/truth", lambda truth: abs(truth.hand.z - before.z - 0.05) < 1e-3)
            state = probe.wait("simulator/state", lambda state: not state.moving)
            assert state.pose.position.z == pytest.approx(before.z + 0.05, abs=1e-3)
            assert probe.wait("camera/image_raw").data != image.data
            assert inject(probe, "reflex").success
            end = probe.now() + DEADLINE
            while robot.state.robot_mode != franky.RobotMode.Reflex:
                assert probe.now() < end
            robot.recover_from_errors()
            assert robot.state.robot_mode == franky.RobotMode.Idle
    finally:
        probe.close()
