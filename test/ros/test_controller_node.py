# SPDX-License-Identifier: Apache-2.0
"""The controller node alone: the probe stands in for the planner and the simulated robot."""

import subprocess
import sys
import time

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import Point, Pose, Quaternion
from probe import Probe
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.parameter import Parameter
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from vjepa2_ros.msg import Command, PlanningStatus, RobotState, SimulatorTarget, StackMembers
from vjepa2_ros.nodes.controller_node import ControllerNode
from vjepa2_ros.robot.driver import RobotDescription
from vjepa2_ros.robot.driver import RobotState as MeasuredState
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.ros.conversions import duration, seconds, stamp
from vjepa2_ros.ros.drivers import DRIVERS
from vjepa2_ros.ros.qos import COMMAND, LATCHED, STREAM, TARGET
from vjepa2_ros.ros.supervision import MANAGER_HEARTBEAT
from vjepa2_ros.stack.process_group import ProcessGroup

START = (0.5, 0.0, 0.2)
PLANNER = "the planner"


class Cell:
    """Sends commands, and answers the controller's targets as an arm that arrives at once."""

    def __init__(self, probe):
        self.probe = probe
        self.position = np.array(START)
        self.talking = self.answering = self.following = True
        # Oscillates, so that it never comes to rest.
        self.swinging, self._side = False, 0.01
        self.mode, self.mode_message = RobotState.READY, ""
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
        moves = [target for target in new if target.mode == SimulatorTarget.MOVE]
        if moves and self.following:
            point = moves[-1].pose.position
            self.position = np.array([point.x, point.y, point.z])
        if self.swinging:
            self._side = -self._side
            self.position = self.position + [self._side, 0.0, 0.0]
        if self.answering:
            self._states.publish(
                RobotState(
                    header=self.header(),
                    pose=pose(self.position),
                    mode=self.mode,
                    mode_message=self.mode_message,
                )
            )
        if self.talking:
            self._statuses.publish(PlanningStatus(header=self.header(), sender=PLANNER))

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
            **{"header": self.header(age), "sender": PLANNER, **fields},
        )
        self.probe.publish("command", command, COMMAND)

    def modes(self):
        """Modes of all targets so far; they come in order, and those before a sign of life have."""
        now = self.probe.now()
        self.probe.wait(
            "simulator/target",
            lambda t: t.mode == SimulatorTarget.ALIVE and seconds(t.header.stamp) > now,
        )
        return [target.mode for target in told(self.probe, self.targets)]

    def wait_state(self, predicate):
        return self.probe.wait("robot_state", predicate, after=self._mark())

    def _mark(self):
        return max(0, self.probe.mark("robot_state") - 1)


def told(probe, mark=0):
    """Targets since a mark, without the driver's signs of life."""
    targets = probe.messages("simulator/target", mark)
    return [target for target in targets if target.mode != SimulatorTarget.ALIVE]


def pose(position):
    x, y, z = (float(value) for value in position)
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=1.0, y=0.0, z=0.0, w=0.0))


def set_parameter(probe, name, value):
    request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
    answer = probe.call(SetParameters, "controller_node/set_parameters", request)
    assert answer.results[0].successful, answer.results[0].reason


@pytest.fixture(scope="module")
def controller(bench):
    with ProcessGroup() as group:
        # The arm of these tests arrives at once.
        limits = {"max_state_age": 1.0, "max_speed": 10.0, "max_state_speed": 100.0}
        group.start_node("controller_node", limits, namespace="/bench")
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
    assert state.fault_reason == state.refused_reason == Reason.NOT_FINITE
    assert SimulatorTarget.MOVE not in cell.modes()
    goal = cell.new_goal()
    cell.command(goal)
    refused = cell.wait_state(lambda s: s.refused_goal_id == goal)
    assert refused.reason == refused.refused_reason == Reason.FAULT_LATCHED
    assert "reset_fault" in refused.message and SimulatorTarget.MOVE not in cell.modes()
    answer = cell.probe.call(Trigger, "reset_fault", Trigger.Request())
    assert answer.success and "not finite" in answer.message
    goal = cell.new_goal()
    cell.command(goal)
    state = cell.wait_state(lambda s: s.goal_id == goal and not s.fault)
    assert state.fault_reason == Reason.NONE and state.reason == Reason.ACCEPTED
    assert cell.modes()[-1] == SimulatorTarget.MOVE


def test_a_stale_command_is_refused_without_a_fault(cell):
    goal = cell.new_goal()
    cell.command(goal, age=60.0)
    state = cell.wait_state(lambda s: s.refused_goal_id == goal)
    assert state.reason == Reason.STALE and "60." in state.message
    assert not state.fault and cell.modes() == []
    cell.command(goal)
    cell.wait_state(lambda s: s.goal_id == goal)


def test_a_command_out_of_sequence_is_refused(cell):
    goal = cell.new_goal()
    cell.command(goal, sequence=7)
    cell.wait_state(lambda s: s.goal_id == goal and not s.moving)
    cell.command(goal, sequence=7)
    state = cell.wait_state(lambda s: s.refused_goal_id == goal)
    assert state.refused_reason == Reason.OUT_OF_SEQUENCE and not state.fault
    assert cell.modes() == [SimulatorTarget.MOVE]


def test_a_step_beyond_the_limit_latches_a_fault(cell):
    cell.command(cell.new_goal(), offset=(0.0, 0.2, 0.0))
    state = cell.wait_state(lambda s: s.fault)
    assert state.fault_reason == Reason.STEP_TOO_LARGE
    assert SimulatorTarget.MOVE not in cell.modes()


def test_a_target_outside_the_workspace_is_clamped_and_reported(cell):
    cell.position = np.array([0.5, 0.0, 0.06])
    cell.wait_state(lambda s: s.pose.position.z < 0.1)
    goal = cell.new_goal()
    cell.command(goal, offset=(0.0, 0.0, -0.05))
    state = cell.wait_state(lambda s: s.goal_id == goal)
    assert state.reason == Reason.CLAMPED
    target = told(cell.probe, cell.targets)[-1]
    assert target.pose.position.z == pytest.approx(0.03)


def test_a_planner_that_falls_silent_halts_a_moving_robot(cell):
    cell.following = False
    goal = cell.new_goal()
    cell.talking = False
    cell.command(goal, lifetime=duration(30.0))
    cell.swinging = True
    state = cell.wait_state(lambda s: s.reason == Reason.PLANNER_SILENT)
    assert not state.moving and cell.modes() == [SimulatorTarget.MOVE, SimulatorTarget.HOLD]


def test_a_command_that_outlives_its_lifetime_is_halted(cell):
    cell.following = False
    cell.command(cell.new_goal(), lifetime=duration(0.5))
    cell.swinging = True
    state = cell.wait_state(lambda s: s.reason == Reason.LIFETIME_EXPIRED)
    assert not state.moving and cell.modes() == [SimulatorTarget.MOVE, SimulatorTarget.HOLD]


def test_a_robot_that_falls_silent_latches_a_fault(cell):
    goal = cell.new_goal()
    cell.command(goal)
    cell.wait_state(lambda s: s.goal_id == goal)
    cell.answering = False
    diagnosis = cell.probe.wait(
        "/diagnostics",
        lambda m: m.status[0].name == "/bench/controller_node" and "fault" in m.status[0].message,
    )
    assert Reason.STATE_STALE.text in diagnosis.status[0].message
    assert cell.modes() == [SimulatorTarget.MOVE, SimulatorTarget.HOLD]


def test_halt_is_the_last_thing_on_the_wire(cell):
    cell.following = False
    goal = cell.new_goal()
    cell.command(goal)
    cell.swinging = True
    cell.wait_state(lambda s: s.goal_id == goal and s.moving)
    called = cell.probe.now()
    assert cell.probe.call(Trigger, "halt", Trigger.Request()).success
    halted = cell.wait_state(lambda s: s.reason == Reason.HALT_REQUESTED)
    assert called < seconds(halted.last_halt) < cell.probe.now()
    cell.command(goal, sequence=2)
    state = cell.wait_state(lambda s: s.refused_sequence == 2 and s.refused_goal_id == goal)
    assert state.refused_reason == Reason.FOREIGN_GOAL
    assert cell.modes() == [SimulatorTarget.MOVE, SimulatorTarget.HOLD]


def test_a_halt_before_the_first_command_of_a_goal_stops_that_goal_too(cell):
    header = cell.header()
    before = cell.wait_state(lambda s: True).halts
    assert cell.probe.call(Trigger, "halt", Trigger.Request()).success
    cell.wait_state(lambda s: s.halts == before + 1)
    goal = cell.new_goal()
    cell.command(goal, header=header)
    state = cell.wait_state(lambda s: s.refused_goal_id == goal)
    assert state.refused_reason == Reason.BEFORE_HALT
    assert SimulatorTarget.MOVE not in cell.modes()


def test_refused_commands_at_a_high_rate_do_not_fill_the_log(cell, controller):
    goal = cell.new_goal()
    lines = controller.processes["controller_node"].lines
    before = len(lines)
    for sequence in range(1, 101):
        cell.command(goal, sequence=sequence, age=60.0 + sequence)
    cell.wait_state(lambda s: s.refused_goal_id == goal and s.refused_sequence == 100)
    assert len([line for line in list(lines)[before:] if "refused" in line]) <= 1


def test_commands_of_another_process_have_no_effect_until_the_next_activation(cell, controller):
    goal = cell.new_goal()
    cell.command(goal)
    cell.wait_state(lambda s: s.goal_id == goal and not s.moving)
    cell.command(goal, sequence=2, sender="a script")
    controller.wait_for_line("controller_node", "FOREIGN_SENDER: ignored a message on `command`", 9)
    cell.command(goal, sequence=2)
    state = cell.wait_state(lambda s: s.sequence == 2)
    assert state.refused_goal_id == "" and cell.modes() == [SimulatorTarget.MOVE] * 2
    assert cell.probe.change("controller_node", "deactivate")
    cell.talking = False
    assert cell.probe.change("controller_node", "activate")
    begun = cell.probe.now()
    cell.wait_state(lambda s: seconds(s.header.stamp) > begun)
    goal = cell.new_goal()
    cell.command(goal, sender="another planner")
    cell.wait_state(lambda s: s.goal_id == goal)


@pytest.fixture
def manager(bench):
    """Heartbeats of a lifecycle manager in the namespace of the cell, which name a planner."""
    publisher = bench.node.create_publisher(StackMembers, MANAGER_HEARTBEAT, 1)
    message = StackMembers(instance="manager", nodes=["planner_node"], instances=[PLANNER])
    timer = bench.node.create_timer(0.1, lambda: publisher.publish(message))
    yield message
    bench.run(lambda: (bench.node.destroy_timer(timer), bench.node.destroy_publisher(publisher)))


def test_the_planner_that_the_manager_names_is_obeyed_and_no_other(cell, manager):
    health = "/bench/controller_node"

    def is_foreign(message):
        values = {entry.key: entry.value for entry in message.status[0].values}
        return message.status[0].name == health and int(values["foreign_messages"]) > 0

    command_until_taken(cell)
    taken = cell.modes()
    manager.instances = ["a planner brought up later"]
    cell.probe.wait("/diagnostics", is_foreign)
    goal = cell.new_goal()
    cell.command(goal)
    cell.command(goal, sender=manager.instances[0], sequence=2)
    state = cell.wait_state(lambda s: s.goal_id == goal)
    assert state.sequence == 2 and cell.modes() == [*taken, SimulatorTarget.MOVE]


def command_until_taken(cell, **fields):
    """Command a new goal until a heartbeat of the manager has arrived; returns the goal."""

    def is_taken():
        goal = cell.new_goal()
        cell.command(goal, **fields)
        sent = cell.probe.now()
        newest = cell.wait_state(lambda s: seconds(s.header.stamp) > sent + 0.1)
        return goal if newest.goal_id == goal else ""

    deadline = time.monotonic() + 10.0
    while not (goal := is_taken()):
        assert time.monotonic() < deadline
    return goal


def test_without_its_manager_the_robot_halts_and_needs_a_new_goal(cell, manager):
    cell.following = False
    goal = command_until_taken(cell, lifetime=duration(30.0))
    cell.swinging = True
    manager.instance = "another manager"
    state = cell.wait_state(lambda s: s.reason == Reason.MANAGER_SILENT)
    assert not state.moving and not state.fault
    refused = cell.new_goal()
    cell.command(refused)
    again = cell.wait_state(lambda s: s.halts > state.halts)
    assert again.reason == Reason.MANAGER_SILENT
    manager.instance = "manager"
    cell.following, cell.swinging = True, False
    command_until_taken(cell)
    cell.command(goal, sequence=2)
    old = cell.wait_state(lambda s: s.refused_goal_id == goal)
    assert old.refused_reason == Reason.FOREIGN_GOAL


def test_a_bound_that_narrows_while_active_applies_to_the_next_command(cell):
    set_parameter(cell.probe, "workspace.upper", [0.52, 0.25, 0.36])
    goal = cell.new_goal()
    cell.command(goal)
    state = cell.wait_state(lambda s: s.goal_id == goal)
    set_parameter(cell.probe, "workspace.upper", [0.66, 0.25, 0.36])
    assert state.reason == Reason.CLAMPED
    target = told(cell.probe, cell.targets)[-1]
    assert target.pose.position.x == pytest.approx(0.52)


def test_deactivation_halts_the_robot_and_an_inactive_node_does_not_move_it(bench, controller):
    cell = Cell(bench)
    try:
        assert bench.state("controller_node") == "inactive"
        cell.command(cell.new_goal())
        answer = bench.call(Trigger, "halt", Trigger.Request())
        assert not answer.success
        assert answer.message == "controller_node is not active: use the robot's own stop"
        assert SimulatorTarget.MOVE not in [target.mode for target in told(bench, cell.targets)]
    finally:
        cell.close()


def test_a_deactivated_controller_says_in_a_last_state_that_all_goals_are_over(cell, bench):
    before = cell.wait_state(lambda state: True)
    requested = bench.now()
    assert bench.change("controller_node", "deactivate")
    last = cell.wait_state(lambda state: state.reason == Reason.DEACTIVATED)
    assert last.halts == before.halts + 1 and seconds(last.last_halt) >= requested
    assert bench.change("controller_node", "activate")


@pytest.fixture
def deaf_cell():
    """A robot that publishes its state and does not listen."""
    probe = Probe("/deaf")
    probe.listen(RobotState, "robot_state", STREAM)
    cell = Cell(probe)
    with ProcessGroup() as group:
        group.start_node("controller_node", namespace="/deaf")
        assert probe.change("controller_node", "configure")
        assert probe.change("controller_node", "activate")
        cell.wait_state(lambda state: True)
        yield cell
    cell.close()
    probe.close()


def test_deactivation_fails_while_the_robot_cannot_be_halted_and_halts_are_tried_again(deaf_cell):
    probe = deaf_cell.probe
    assert not probe.change("controller_node", "deactivate")
    assert probe.state("controller_node") == "active"
    state = deaf_cell.wait_state(lambda s: s.fault_reason == Reason.ROBOT_NOT_STOPPED)
    assert state.reason == Reason.ROBOT_NOT_STOPPED and "own stop" in state.message
    answer = probe.call(Trigger, "reset_fault", Trigger.Request())
    assert not answer.success and "own stop" in answer.message
    probe.listen(SimulatorTarget, "simulator/target", TARGET)
    probe.wait_until(lambda: told(probe))
    assert told(probe)[0].mode == SimulatorTarget.HOLD
    assert probe.change("controller_node", "deactivate")


def test_before_the_robots_first_state_there_is_nothing_to_halt(bench):
    with ProcessGroup() as group:
        group.start_node("controller_node", namespace="/silent")
        probe = Probe("/silent")
        try:
            for transition in ("configure", "activate", "deactivate"):
                assert probe.change("controller_node", transition)
        finally:
            probe.close()


def test_text_from_the_network_cannot_steer_the_terminal_through_the_log():
    escape = "\x1b[2J"
    probe = Probe("/escapes")
    probe.listen(RobotState, "robot_state", STREAM)
    probe.listen(SimulatorTarget, "simulator/target", COMMAND)
    cell = Cell(probe)
    command = [sys.executable, "-m", "vjepa2_ros.nodes", "controller_node"]
    process = subprocess.Popen(
        [*command, "--ros-args", "-r", "__ns:=/escapes"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        assert probe.change("controller_node", "configure")
        assert probe.change("controller_node", "activate")
        cell.wait_state(lambda state: True)
        header = cell.header()
        header.frame_id = escape
        cell.command(f"goal{escape}", header=header)
        cell.wait_state(lambda s: s.refused_reason == Reason.WRONG_FRAME)
        cell.mode, cell.mode_message = RobotState.FAULTED, f"reflex{escape}"
        cell.wait_state(lambda s: s.fault)
        process.terminate()
        output = process.communicate(timeout=30.0)[0]
    finally:
        process.kill()
        cell.close()
        probe.close()
    assert b"\x1b" not in output and b"reflex\\x1b[2J" in output


def test_an_unknown_robot_is_refused_at_configure_with_the_known_ones(bench):
    with ProcessGroup() as group:
        group.start_node("controller_node", {"robot": "simulater"}, namespace="/unknown")
        probe = Probe("/unknown")
        try:
            assert not probe.change("controller_node", "configure")
            group.wait_for_line("controller_node", "known: simulator, franka", 10.0)
        finally:
            probe.close()


class StillRobot:
    """A robot that is always there and does not move."""

    def __init__(self, clock):
        self._clock = clock

    def describe(self):
        return RobotDescription("still", 0.1, 0.08)

    def read_state(self):
        return MeasuredState(np.array(START), np.array([1.0, 0.0, 0.0, 0.0]), 0.0, self._clock())

    def move_to(self, position, quaternion_xyzw, gripper_closedness):
        pass

    def stop(self):
        pass

    def recover(self):
        pass

    def close(self):
        pass


@pytest.mark.parametrize("name", ["halt", "reset_fault"])
def test_the_state_with_its_effect_is_published_before_the_answer_to(name, monkeypatch):
    """A planner that gets the answer would still go by the state of the tick before."""
    monkeypatch.setitem(DRIVERS, "still", lambda context: StillRobot(context.clock))
    context = Context()
    rclpy.init(context=context)
    node = ControllerNode(context=context, parameter_overrides=[Parameter("robot", value="still")])
    try:
        node.trigger_configure()
        node.trigger_activate()
        node._on_tick()
        published = []
        monkeypatch.setattr(node._states, "publish", published.append)
        halts = node._controller.halts
        assert getattr(node, f"_on_{name}")(Trigger.Request(), Trigger.Response()).success
        assert [state.halts for state in published] == [halts + 1]
    finally:
        node.destroy_node()
        context.try_shutdown()
