# SPDX-License-Identifier: Apache-2.0
"""Targets that the joints of the arm allow, and what is said where that cannot be known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vjepa2_ros.robot.driver import RobotDescription, RobotState
from vjepa2_ros.robot.kinematics import JOINT_LIMITS, FrankaKinematics
from vjepa2_ros.robot.reachability import Reachability
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.robot.safety import CommandGate, MotionCommand
from vjepa2_ros.settings.cell import Workspace
from vjepa2_ros.settings.controller import MotionLimits
from vjepa2_ros.simulation.simulator import DOWN, Simulator, hand_rotation

HOME = np.array([0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785])
MARGIN = 0.05
FR3 = JOINT_LIMITS["fr3"]
# As long as another gripper, bent and turned.
TOOL = np.array([0.02, -0.01, 0.09]), Rotation.from_euler("xyz", [0.3, -0.2, 0.5])


def measured(joints, tool=TOOL):
    """The state of an arm that carries a tool that the kinematics do not know."""
    position, rotation = FrankaKinematics().forward(joints)
    offset, turn = tool
    pose = position + rotation.apply(offset), (rotation * turn).as_quat()
    return RobotState(*pose, 0.0, 100.0, joint_positions=np.array(joints))


@pytest.fixture
def reachability():
    return Reachability(FrankaKinematics(), FR3.lower, FR3.upper)


def problem(reachability, state, goal, margin=MARGIN):
    return reachability.problem(goal.position, goal.quaternion_xyzw, state, margin)


def near(joints, change):
    return measured(np.asarray(joints) + change)


def test_every_target_near_joints_within_their_limits_can_be_reached(reachability):
    random = np.random.default_rng(0)
    for _ in range(50):
        joints = HOME + random.uniform(-0.4, 0.4, 7)
        goal = near(joints, random.uniform(-0.06, 0.06, 7))
        assert problem(reachability, measured(joints), goal) == ""


@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("side", [-1, 1])
def test_a_target_that_takes_a_joint_to_its_limit_cannot_be_reached(number, side, reachability):
    """With all other joints in the middle of narrow limits, only this one can make the way."""
    limit = (FR3.upper if side > 0 else FR3.lower)[number]
    joints = HOME.copy()
    joints[number] = limit - side * (MARGIN + 0.01)
    goal = near(joints, side * 0.15 * np.eye(7)[number])
    found = problem(reachability, measured(joints), goal)
    assert found.startswith(f"joint {number + 1} would be ") and "0.050 rad" in found
    back = near(joints, -side * 0.15 * np.eye(7)[number])
    assert problem(reachability, measured(joints), back) == ""


def test_a_joint_that_is_too_near_to_its_limit_may_leave_it_but_come_no_nearer(reachability):
    joints = HOME.copy()
    joints[5] = FR3.upper[5] - 0.02
    axis = np.eye(7)[5]
    assert problem(reachability, measured(joints), near(joints, -0.1 * axis)) == ""
    assert problem(reachability, measured(joints), near(joints, 0.015 * axis)) != ""


def test_a_target_beyond_the_stretched_arm_cannot_be_reached(reachability):
    stretched = measured([0.0, 0.8, 0.0, -0.2, 0.0, 1.2, 0.785])
    away = replace(stretched, position=stretched.position * 1.15)
    assert "short of it" in problem(reachability, stretched, away)


def test_nothing_is_said_of_a_state_without_joints(reachability):
    state = replace(measured(HOME), joint_positions=None)
    assert problem(reachability, state, replace(state, position=state.position + 5.0)) == ""


def test_nothing_is_said_where_the_tool_has_moved_on_the_arm(reachability):
    assert problem(reachability, measured(HOME), measured(HOME)) == ""
    other = measured(HOME, (TOOL[0] + [0.0, 0.0, 0.02], TOOL[1]))
    far = replace(other, position=other.position + 5.0)
    assert problem(reachability, other, far) == ""
    turned = measured(HOME, (TOOL[0], TOOL[1] * Rotation.from_euler("z", 0.1)))
    assert problem(reachability, turned, replace(turned, position=far.position)) == ""
    assert problem(reachability, measured(HOME), far) != "", "it is back where it was"


@pytest.mark.parametrize("missing", ["kinematics", "joint_lower", "joint_upper"])
def test_a_robot_that_does_not_describe_its_joints_is_not_checked(missing):
    names = tuple("1234567")
    known = RobotDescription("arm", 0.2, 0.08, names, FR3.lower, FR3.upper, FrankaKinematics())
    assert Reachability.of(known) is not None
    assert Reachability.of(replace(known, **{missing: None})) is None


def test_the_gate_refuses_what_cannot_be_reached_without_a_fault(reachability):
    joints = HOME.copy()
    joints[6] = FR3.upper[6] - MARGIN - 0.01
    state, goal = measured(joints), near(joints, 0.15 * np.eye(7)[6])
    command = MotionCommand(
        "goal", 1, 100.0, goal.position, goal.quaternion_xyzw, 0.0, frame="base"
    )
    limits = MotionLimits(joint_margin=MARGIN)
    gate = CommandGate(limits, reachability)
    verdict = gate.check(command, state, 100.0, 1.0)
    assert verdict.reason is Reason.UNREACHABLE and not verdict.violation and gate.goal_id == ""
    assert CommandGate(limits).check(command, state, 100.0, 1.0).accepted, "nothing else forbids it"


def test_the_whole_workspace_of_the_simulated_cell_is_within_reach():
    simulator = Simulator()
    check = Reachability.of(simulator.describe())
    box = Workspace()
    random = np.random.default_rng(0)
    corners = np.array(np.meshgrid(*zip(box.lower, box.upper, strict=True))).reshape(3, -1).T
    places = [*corners, *random.uniform(box.lower, box.upper, (40, 3))]
    for place in places:
        simulator.place(place, DOWN, 0.0)
        state = simulator.measured(0.0)
        np.testing.assert_allclose(state.position, place, atol=3e-3)
        for _ in range(5):
            step = np.clip(place + random.uniform(-0.09, 0.09, 3), box.lower, box.upper)
            turn = hand_rotation(random.uniform(-0.4, 0.4)).as_quat()
            assert check.problem(step, turn, state, MotionLimits().joint_margin) == ""
