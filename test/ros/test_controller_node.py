# SPDX-License-Identifier: Apache-2.0
"""The controller node alone: the probe is its planner, and the simulated robot on its wire."""

import numpy as np
import pytest
from geometry_msgs.msg import Point, Pose, Quaternion
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from vjepa2_ros.msg import Command, PlanningStatus, RobotState, SimulatorTarget
from vjepa2_ros.ros.conversions import duration, seconds, stamp
from vjepa2_ros.stack.process_group import ProcessGroup
from vjepa2_ros.ros.qos import COMMAND, LATCHED, STREAM

START = (0.5, 0.0, 0.2)


class Cell:
    """Sends commands, and answers the controller's targets as an arm that is there at once."""

    def __init__(self, probe):
        self.probe = probe
        self.position = np.array(START)
        self.talking = self.answering = self.following = True
        # Swings for ever, so that it never comes to rest.
        self.swinging, self._side = False, 0.01
        self.goals = 0
        self.targets = probe.mark("simulator/target")
        self._taken = self.targets
        self._states = probe.node.create_publisher(RobotState, "simulator/state", STREAM)
        self._statuses = probe.node.create_publisher(PlanningStatus, "status", LATCHED)
        self._timer = probe.node.create_timer(0.02, self._tick)

    def close(self):
        self.probe.run(self._destroy)

    def _destroy(self):
        self.probe.node.destroy_timer(self._timer)
        self.probe.node.destroy_publisher(self._states)
        self.probe.node.destroy_publisher(self._statuses)

    def _tick(self):
        new = self.probe.messages("simulator/target", self._taken)
        self._taken += len(new)
        if new and self.following and new[-1].mode == SimulatorTarget.MOVE:
            point = new[-1].pose.position
            self.position = np.array([point.x, point.y, point.z])
        if self.swinging:
            self._side = -self._side
            self.position = self.position + [self._side, 0.0, 0.0]
        if self.answering:
            self._states.publish(
                RobotState(header=self.header(), pose=pose(self.position), moving=False)
            )
        if self.talking:
            self._statuses.publish(PlanningStatus(header=self.header()))

    def header(self, age=0.0):
        return Header(stamp=stamp(self.probe.now() - age), frame_id="base")

    def new_goal(self):
        self.goals += 1
        return f"{id(self)}-{self.goals}"

    def command(self, goal, sequence=1, offset=(0.05, 0.0, 0.0), age=0.0, **fields):
        command = Command(
            goal_id=goal,
            sequence=sequence,
            pose=pose(self.position + np.array(offset)),
            **{"header": self.header(age), **fields},
        )
        self.probe.publish("command", command, COMMAND)

    def modes(self):
        return [target.mode for target in self.probe.messages("simulator/target", self.targets)]

    def wait_state(self, predicate):
        return self.probe.wait("robot_state", predicate, after=self._mark())

    def _mark(self):
        return max(0, self.probe.mark("robot_state") - 1)


def pose(position):
    x, y, z = (float(value) for value in position)
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=1.0, y=0.0, z=0.0, w=0.0))


@pytest.fixture(scope="module")
def controller(bench):
    with ProcessGroup() as group:
        group.start_node("controller_node", {"max_state_age": 1.0}, namespace="/bench")
        assert bench.change("controller_node", "configure")
        yield group


@pytest.fixture
def cell(bench, controller):
    cell = Cell(bench)
    assert bench.change("controller_node", "activate")
    begun = bench.now()
    cell.wait_state(lambda state: seconds(state.header.stamp) > begun)
    cell.targets = bench.mark("simulator/target")
    yield cell
    cell.answering = True
    assert bench.change("controller_node", "deactivate")
    cell.close()


def test_a_command_moves_the_robot_and_the_state_reports_its_end(cell):
    goal = cell.new_goal()
    cell.command(goal)
    state = cell.wait_state(lambda s: s.goal_id == goal and s.sequence == 1 and not s.moving)
    assert state.pose.position.x == pytest.approx(START[0] + 0.05)
    assert cell.modes() == [SimulatorTarget.MOVE] and not state.fault


def test_a_target_that_is_not_finite_is_never_sent_and_latches_a_fault(cell):
    cell.command(cell.new_goal(), offset=(float("nan"), 0.0, 0.0))
    state = cell.wait_state(lambda s: s.fault)
    assert "not finite" in state.fault and SimulatorTarget.MOVE not in cell.modes()
    goal = cell.new_goal()
    cell.command(goal)
    refused = cell.wait_state(lambda s: s.refused_goal_id == goal)
    assert "reset_fault" in refused.message and SimulatorTarget.MOVE not in cell.modes()
    answer = cell.probe.call(Trigger, "reset_fault", Trigger.Request())
    assert answer.success and "not finite" in answer.message
    goal = cell.new_goal()
    cell.command(goal)
    cell.wait_state(lambda s: s.goal_id == goal and not s.fault)
    assert cell.modes()[-1] == SimulatorTarget.MOVE


def test_a_stale_command_is_refused_without_a_fault(cell):
    goal = cell.new_goal()
    cell.command(goal, age=60.0)
    state = cell.wait_state(lambda s: s.refused_goal_id == goal)
    assert "stale" in state.message and "60." in state.message
    assert not state.fault and cell.modes() == []
    cell.command(goal)
    cell.wait_state(lambda s: s.goal_id == goal)


def test_a_command_out_of_sequence_is_refused(cell):
    goal = cell.new_goal()
    cell.command(goal, sequence=7)
    cell.wait_state(lambda s: s.goal_id == goal and not s.moving)
    cell.command(goal, sequence=7)
    state = cell.wait_state(lambda s: s.refused_goal_id == goal)
    assert "out of sequence" in state.message and not state.fault
    assert cell.modes() == [SimulatorTarget.MOVE]


def test_a_step_beyond_the_limit_latches_a_fault(cell):
    cell.command(cell.new_goal(), offset=(0.0, 0.2, 0.0))
    state = cell.wait_state(lambda s: s.fault)
    assert "step too large" in state.fault and SimulatorTarget.MOVE not in cell.modes()


def test_a_target_outside_the_workspace_is_clamped_and_reported(cell):
    cell.position = np.array([0.5, 0.0, 0.06])
    cell.wait_state(lambda s: s.pose.position.z < 0.1)
    goal = cell.new_goal()
    cell.command(goal, offset=(0.0, 0.0, -0.05))
    state = cell.wait_state(lambda s: s.goal_id == goal)
    assert "outside the workspace" in state.message
    target = cell.probe.messages("simulator/target", cell.targets)[-1]
    assert target.pose.position.z == pytest.approx(0.04)


def test_a_planner_that_falls_silent_halts_a_moving_robot(cell):
    cell.following = False
    goal = cell.new_goal()
    cell.talking = False
    cell.command(goal, lifetime=duration(30.0))
    cell.swinging = True
    state = cell.wait_state(lambda s: "planner has been silent" in s.message)
    assert not state.moving and cell.modes() == [SimulatorTarget.MOVE, SimulatorTarget.HOLD]


def test_a_command_that_outlives_its_lifetime_is_halted(cell):
    cell.following = False
    cell.command(cell.new_goal(), lifetime=duration(0.5))
    cell.swinging = True
    state = cell.wait_state(lambda s: "outlived its lifetime" in s.message)
    assert not state.moving and cell.modes() == [SimulatorTarget.MOVE, SimulatorTarget.HOLD]


def test_a_robot_that_falls_silent_latches_a_fault(cell):
    cell.answering = False
    diagnosis = cell.probe.wait(
        "/diagnostics",
        lambda m: m.status[0].name == "/bench/controller_node" and "silent" in m.status[0].message,
    )
    assert "fault" in diagnosis.status[0].message
    assert cell.modes() == [SimulatorTarget.HOLD]


def test_halt_is_the_last_thing_on_the_wire(cell):
    cell.following = False
    goal = cell.new_goal()
    cell.command(goal)
    cell.swinging = True
    cell.wait_state(lambda s: s.goal_id == goal and s.moving)
    assert cell.probe.call(Trigger, "halt", Trigger.Request()).success
    cell.command(goal, sequence=2)
    state = cell.wait_state(lambda s: s.refused_sequence == 2 and s.refused_goal_id == goal)
    assert "goal is over" in state.message
    assert cell.modes() == [SimulatorTarget.MOVE, SimulatorTarget.HOLD]


def test_a_halt_before_the_first_command_of_a_goal_stops_that_goal_too(cell):
    header = cell.header()
    before = cell.wait_state(lambda s: True).halts
    assert cell.probe.call(Trigger, "halt", Trigger.Request()).success
    cell.wait_state(lambda s: s.halts == before + 1)
    goal = cell.new_goal()
    cell.command(goal, header=header)
    state = cell.wait_state(lambda s: s.refused_goal_id == goal)
    assert "before the halt" in state.message and SimulatorTarget.MOVE not in cell.modes()


def test_deactivation_halts_the_robot_and_an_inactive_node_does_not_move_it(bench, controller):
    cell = Cell(bench)
    try:
        assert bench.state("controller_node") == "inactive"
        cell.command(cell.new_goal())
        answer = bench.call(Trigger, "halt", Trigger.Request())
        assert not answer.success and "not active" in answer.message
        assert SimulatorTarget.MOVE not in cell.modes()
    finally:
        cell.close()
