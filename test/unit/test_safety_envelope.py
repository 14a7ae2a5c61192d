# SPDX-License-Identifier: Apache-2.0
"""Whatever comes in, only motions within the limits go out: random and adversarial histories of
commands, states, faults, halts and clocks, judged by a second statement of the rules.
"""

import contextlib
import inspect
import math
import random
import re
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
from envelope import Envelope
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vjepa2_ros.robot import controller, reachability, safety, state_watch
from vjepa2_ros.robot.controller import MotionController
from vjepa2_ros.robot.driver import RobotDescription, RobotError, RobotMode, RobotState
from vjepa2_ros.robot.kinematics import JOINT_LIMITS, FrankaKinematics
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.robot.safety import MotionCommand
from vjepa2_ros.settings.cell import MotionCell, Workspace
from vjepa2_ros.settings.controller import MotionLimits

EXAMPLES, STEPS = 1960, 50
TRACED = 45
"""In how many examples with an arm, and without, the lines that run are noted; it is slow."""
MODULES = (controller, safety, state_watch, reachability)
DOWN = np.array([1.0, 0.0, 0.0, 0.0])
HOME = np.array([0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785])
FR3 = JOINT_LIMITS["fr3"]
POINT = RobotDescription("point", 0.25, 0.08)
FRANKA = RobotDescription(
    "arm", 0.25, 0.08, tuple("1234567"), FR3.lower, FR3.upper, FrankaKinematics()
)
FACTORS = (0.3, 0.7, 1.0 - 1e-5, 1.0 + 1e-5, 1.2, 3.0)
"""Of a limit: what is just allowed and just forbidden, and far of it."""
EVERYTHING = MotionCell(workspace=Workspace(lower=(-2.0, -2.0, -2.0), upper=(2.0, 2.0, 2.0)))
VARIANTS = {
    "default": MotionLimits(),
    "narrow": MotionLimits(table_height=0.1, max_command_rate=5.0, max_rotation=0.2, lifetime=0.3),
    "wide": MotionLimits(cell=EVERYTHING, max_step=0.2, max_speed=1.0),
    "deep": MotionLimits(
        cell=MotionCell(workspace=Workspace(lower=(0.45, -0.05, -0.1), upper=(0.55, 0.05, 0.3))),
        max_step=0.05,
        max_force=20.0,
    ),
    # Nothing but the joints limits this one.
    "arm": MotionLimits(cell=EVERYTHING, max_step=0.5),
}
STARTS = (
    (0.5, 0.0, 0.2),
    (0.5, 0.0, 0.031),
    (0.66, 0.25, 0.36),
    (0.5, 0.0, -0.04),
    (0.5, 0.02, -0.3),
    (0.75, 0.0, 0.2),
    (1.1, 0.3, 0.5),
)
"""In the workspace, at its edge, and outside by less and by more than a step."""
EVENTS = ("calm",) * 40 + (
    "old state", "state from the future", "same stamp", "not finite", "no orientation", "fast",
    "jump", "force", "torque", "recovering", "user stop", "error", "gripper", "unreadable",
    "deaf", "not recoverable", "pause", "late", "halt", "limits", "clock",
    "no joints",
)  # fmt: skip
CHANGES = ("none",) * 24 + (
    "not finite", "frame", "quaternion", "closedness", "lifetime", "goal id", "sequence", "goal",
    "observation", "step", "turn", "edge", "twice", "refused by the robot", "joint", "still",
)  # fmt: skip


class Arm:
    """A robot of which everything can be set, and that keeps every motion it is asked for."""

    def __init__(self, description):
        self.description = description
        self.state = None
        self.broken = set()
        self.asked = []
        self.stops_failed = 0

    def describe(self):
        return self.description

    def read_state(self):
        if "read" in self.broken:
            raise RobotError("cable pulled")
        return self.state

    def move_to(self, position, quaternion_xyzw, gripper_closedness):
        self.asked.append((np.array(position), np.array(quaternion_xyzw), gripper_closedness))
        if "move" in self.broken:
            raise RobotError("reflex")

    def stop(self):
        if "stop" in self.broken:
            self.stops_failed += 1
            raise RobotError("brakes stuck")

    def recover(self):
        if "recover" in self.broken:
            raise RobotError("user stop is pressed")


class History:
    """One robot with its controller and the envelope that judges it.

    Attributes:
        verdicts: how often each reason decided on a command.
        seen: how often each reason was told, for what the controller did or for its fault.
        commands, accepted: how many there were.
    """

    def __init__(self, variant, number):
        self.random = random.Random(number)
        self.joints = None
        description = POINT
        if variant == "arm":
            description = FRANKA
            self.joints = HOME.copy()
            self.joints[6] = self.random.choice((0.8, 2.8, 2.98, -2.9))
        self.arm = Arm(description)
        limits = VARIANTS[variant]
        self.controller = MotionController(self.arm, limits, planner_timeout=1.0)
        self.envelope = Envelope(limits, description)
        self.now = 1000.0
        self.steady = 50.0
        self.position = np.array(STARTS[0])
        self.target = self.position
        self.mode = RobotMode.READY
        self.goal, self.goals = "goal 0", ["goal 0"]
        self.numbers = Counter()  # last accepted sequence number of each goal
        self.verdicts, self.seen = Counter(), Counter()
        self.commands = self.accepted = 0

    def step(self, event, change):
        """Let some time pass, in which something happens, and send a command."""
        self._pass(1.5 if event == "pause" else self.random.choice((0.02, 0.06, 0.06, 0.1, 0.3)))
        if event == "clock":
            self.now += self.random.choice((-20.0, -1.0, -0.3, 0.3, 1.0, 20.0))
        self._move(event)
        self._set_mode(event)
        self._break(event)
        self._tick(self._measure(event))
        if event == "halt":
            self._called(self.controller.halt, Reason.HALT_REQUESTED, "by hand", self.now)
            self.envelope.end_goals(self.now)
        if event == "limits":
            self._narrow()
        if self.controller.fault and self.random.random() < 0.6:
            self._reset(event)
        if event == "late":
            self._pass(0.6)
        command = self._command(change)
        self._send(command)
        if change == "twice":
            self._pass(self.random.choice((0.0, 0.01, 0.049, 0.051)))
            self._send(replace(command, sequence=command.sequence + 1))

    # The world

    def _pass(self, seconds):
        self.now += seconds
        self.steady += seconds
        self.seconds = seconds

    def _move(self, event):
        """Go towards the last target at an ordinary speed, or elsewhere."""
        limits = self.controller.limits
        if self.joints is not None:
            self.joints = self.joints + self._vector(7, 0.002)
        elif event == "fast":
            self.position = self.position + self._direction() * self.seconds * (
                limits.max_speed * self.random.choice((0.9, 1.1, 2.0))
            )
        elif event == "jump":
            way = limits.max_state_speed * self.seconds + 0.01
            self.position = self.position + self._direction() * way * self.random.choice(FACTORS)
        else:
            way = self.target - self.position
            length = math.hypot(*way)
            self.position = self.position + way * min(1.0, 0.2 * self.seconds / max(length, 1e-9))

    def _set_mode(self, event):
        modes = {
            "recovering": RobotMode.RECOVERING,
            "user stop": RobotMode.USER_STOPPED,
            "error": RobotMode.FAULTED,
        }
        if event in modes:
            self.mode = modes[event]
        elif self.random.random() < 0.5:
            self.mode = RobotMode.READY

    def _break(self, event):
        broken = self.arm.broken
        broken.clear()
        if event == "unreadable":
            broken.add("read")
        if event == "not recoverable":
            broken.add("recover")
        if event == "deaf":
            broken.add("stop")
            self._called(self.controller.halt, Reason.HALT_REQUESTED, "by hand", self.now)

    def _measure(self, event):
        """The state that the robot gives, faults of the measurement included."""
        limits, choose = self.controller.limits, self.random.choice
        if self.joints is not None:
            position, rotation = FRANKA.kinematics.forward(self.joints)
            quaternion = rotation.as_quat()
        else:
            position, quaternion = self.position, DOWN
        state = RobotState(
            position.copy(), quaternion, 0.0, self.now, mode=self.mode, joint_positions=self.joints
        )
        wrench = None
        if event == "old state":
            state = replace(state, stamp=self.now - limits.max_state_age * choose(FACTORS))
        elif event == "state from the future":
            state = replace(state, stamp=self.now + limits.max_state_age * choose(FACTORS))
        elif event == "same stamp" and self.arm.state is not None:
            state = replace(state, stamp=self.arm.state.stamp)
        elif event == "not finite":
            state.position[self.random.randrange(3)] = choose((math.nan, math.inf))
        elif event == "no orientation":
            length = choose((0.0, 1.0 + 9e-4, 1.002, 2.0))
            state = replace(state, quaternion_xyzw=quaternion * length)
        elif event == "force":
            wrench = [*self._direction() * limits.max_force * choose(FACTORS), 0.0, 0.0, 0.0]
        elif event == "torque":
            wrench = [0.0, 0.0, 0.0, *self._direction() * limits.max_torque * choose(FACTORS)]
        elif event == "no joints":
            state = replace(state, joint_positions=None)
        elif event == "gripper":
            state = replace(state, gripper_problem="the fingers do not move")
        return replace(state, wrench=None if wrench is None else np.array(wrench))

    def _tick(self, state):
        moving = self.controller.moving
        self.arm.state = state
        if "read" in self.arm.broken:
            self.envelope.unreadable(self.now)
        else:
            self.envelope.read(state, self.now, moving)
        self._called(self.controller.tick, self.now, self.steady)
        assert self.controller.fault or not self.envelope.blocked, self.envelope.blocked

    def _narrow(self):
        box = self.controller.limits.cell.workspace
        lower, upper = np.array(box.lower), np.array(box.upper)
        if (upper - lower).min() < 0.05:
            return
        share = self.random.choice((0.02, 0.1))
        lower, upper = lower + share * (upper - lower), upper - share * (upper - lower)
        cell = MotionCell(workspace=Workspace(tuple(lower.tolist()), tuple(upper.tolist())))
        limits = replace(self.controller.limits, cell=cell)
        self.controller.limits = self.envelope.limits = limits

    def _reset(self, event):
        """A person brings the arm to a place and resets the fault."""
        if self.joints is None and event not in ("not finite", "no orientation"):
            self.position = self.target = np.array(self.random.choice((STARTS[0],) * 5 + STARTS))
            self._pass(0.3)
            self._tick(self._measure("calm"))
        if self._called(self.controller.reset_fault, self.now):
            self.envelope.reset(self.now)
            if self.random.random() < 0.7:
                self._pass(0.06)
                self._tick(self._measure("calm"))

    def _vector(self, size, bound):
        return np.array([self.random.uniform(-bound, bound) for _ in range(size)])

    def _direction(self):
        vector = np.array([self.random.gauss(0.0, 1.0) for _ in range(3)])
        return vector / math.hypot(*vector)

    # The commands

    def _command(self, change):
        """A good command for where the robot was measured last, or one with a fault in it."""
        limits, choose = self.controller.limits, self.random.choice
        state = self.controller.state or self.arm.state
        if self.goal in self.envelope.over and self.random.random() < 0.8:
            self._new_goal()
        last = self.numbers[self.goal]
        position = state.position + self._vector(3, min(0.9 * limits.max_step, 0.18))
        quaternion = state.quaternion_xyzw
        fields = dict(
            goal_id=self.goal,
            sequence=last + 1,
            observation_stamp=self.now - choose((0.0, 0.01, 0.05, 0.2)),
            gripper_closedness=0.5,
            lifetime=choose((0.0, 0.1, 3.0, 60.0)),
            frame="base",
        )
        if change == "not finite":
            fields[choose(("gripper_closedness", "lifetime", "observation_stamp"))] = math.nan
            if self.random.random() < 0.5:
                fields.update(gripper_closedness=0.5, lifetime=0.0, observation_stamp=self.now)
                position = position.copy()
                position[self.random.randrange(3)] = choose((math.nan, math.inf, -math.inf))
        elif change == "frame":
            fields["frame"] = choose(("", "camera", "Base", "x" * 10_000))
        elif change == "quaternion":
            quaternion = quaternion * choose((0.0, 0.99, 1.0 + 9e-4, 1.002, -1.0))
        elif change == "closedness":
            fields["gripper_closedness"] = choose((-1e-6, 0.0, 1.0, 1.0 + 1e-6, 5.0))
        elif change == "lifetime":
            fields["lifetime"] = choose((-1e-6, 60.0 + 1e-3, 1e9))
        elif change == "goal id":
            fields["goal_id"] = choose(("", "g" * 128, "g" * 129, "g" * 10_000))
        elif change == "sequence":
            leap = choose((-5, -1, 0, 2, 1000, 1001, 2**64 - 1))
            fields["sequence"] = max(0, last + leap)
        elif change == "goal":
            if self.random.random() < 0.5:
                self._new_goal()
            fields["goal_id"] = choose(self.goals)
            fields["sequence"] = self.numbers[fields["goal_id"]] + 1
        elif change == "observation":
            oldest = limits.cell.age.max_observation_age
            fields["observation_stamp"] = self.now + choose(
                [-oldest * factor for factor in FACTORS]
                + [limits.max_state_age * factor for factor in FACTORS]
            )
        elif change == "step":
            position = state.position.copy()
            position[self.random.randrange(3)] += limits.max_step * (
                choose(FACTORS) * choose((-1.0, 1.0))
            )
        elif change == "turn":
            angle = limits.max_rotation * choose(FACTORS)
            turn = Rotation.from_rotvec(self._direction() * angle)
            if np.isfinite(quaternion).all() and np.any(quaternion):
                quaternion = (turn * Rotation.from_quat(quaternion)).as_quat()
        elif change == "edge":
            box = limits.cell.workspace
            axis = self.random.randrange(3)
            edge = choose((box.lower[axis], box.upper[axis], limits.table_height))
            position = position.copy()
            position[axis] = edge + choose((-0.02, -1e-9, 0.0, 1e-9, 0.02))
        elif change == "still":
            position = state.position
        elif change == "joint" and self.joints is not None:
            if self.random.random() < 0.3:
                away = np.array([0.45, 0.0, 0.2])
                return MotionCommand(
                    position=state.position + away, quaternion_xyzw=quaternion, **fields
                )
            joints = self.joints.copy()
            joints[self.random.choice((6, 6, 6, 5, 4))] += self.random.uniform(-0.45, 0.45)
            position, rotation = FRANKA.kinematics.forward(joints)
            quaternion = rotation.as_quat()
        if change == "refused by the robot":
            self.arm.broken.add("move")
        return MotionCommand(position=position, quaternion_xyzw=quaternion, **fields)

    def _new_goal(self):
        self.goal = f"goal {len(self.goals)}"
        self.goals.append(self.goal)

    def _send(self, command):
        already = len(self.arm.asked)
        self.commands += 1
        # Judged before the controller's answer is known: the envelope must not learn from it.
        verdict = self._called(
            self.controller.command, command, self.now, self.steady, judge=command
        )
        self.verdicts[verdict.reason] += 1
        asked = self.arm.asked[already:]
        assert len(asked) == (verdict.accepted or verdict.reason is Reason.ROBOT_REFUSED)
        if verdict.accepted:
            self.accepted += 1
            self.numbers[command.goal_id] = command.sequence
            self.target = asked[0][0]
            assert self.controller.moving
        else:
            self.envelope.refused(verdict, self.now)

    def _called(self, method, *arguments, judge=None):
        """Call the controller, judge what it sent to the robot, and note what ended its goals."""
        already, failed = len(self.arm.asked), self.arm.stops_failed
        halts = self.controller.halts
        result = method(*arguments)
        for pose in self.arm.asked[already:]:
            assert judge is not None, "the controller moved the robot on its own"
            self.envelope.sent(judge, pose, self.now, self.steady)
        if self.controller.halts > halts:
            self.envelope.end_goals(self.now)
        if self.arm.stops_failed > failed:
            self.envelope.block("not stopped", self.now)
        self.seen[self.controller.reason] += 1
        self.seen[self.controller.fault_reason] += 1
        return result


def reasons_in(modules):
    """Every code that the sources name."""
    names = re.findall(r"Reason\.([A-Z_]+)", "".join(map(inspect.getsource, modules)))
    return {Reason[name] for name in names} - {Reason.NONE}


def lines_of(module):
    """Lines that run when functions of a module are called."""
    lines, codes = set(), [compile(inspect.getsource(module), module.__file__, "exec")]
    for code in codes:
        inner = [constant for constant in code.co_consts if inspect.iscode(constant)]
        codes += inner
        if code.co_flags & inspect.CO_NEWLOCALS and code.co_flags & inspect.CO_OPTIMIZED:
            lines |= {line for _, _, line in code.co_lines() if line} - {code.co_firstlineno}
    return lines


class Tracer:
    """Notes which lines of the modules run."""

    def __init__(self, modules):
        self.lines = {module.__file__: set() for module in modules}

    def __enter__(self):
        self._before = sys.gettrace()
        sys.settrace(self._call)

    def __exit__(self, *exception):
        sys.settrace(self._before)

    def _call(self, frame, event, argument):
        lines = self.lines.get(frame.f_code.co_filename)
        if lines is None:
            return None

        def note(frame, event, argument):
            if event == "line":
                lines.add(frame.f_lineno)
            return note

        return note


HISTORIES = st.tuples(
    st.sampled_from(["default"] * 14 + ["narrow"] * 8 + ["wide"] * 8 + ["deep"] * 8 + ["arm"]),
    st.integers(0, 2**32),
    st.lists(
        st.tuples(st.sampled_from(EVENTS), st.sampled_from(CHANGES)),
        min_size=STEPS,
        max_size=STEPS,
    ),
)


def test_whatever_is_sent_to_the_robot_lies_within_the_envelope():
    verdicts, seen, played, tracer = Counter(), Counter(), Counter(), Tracer(MODULES[1:])
    traced = Counter()

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        # To shrink a history takes minutes; its number and its steps are printed as they are.
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )
    @given(HISTORIES)
    def play(history):
        variant, number, steps = history
        traced[variant == "arm"] += 1
        with tracer if traced[variant == "arm"] <= TRACED else contextlib.nullcontext():
            cell = History(variant, number)
            for event, change in steps:
                cell.step(event, change)
        verdicts.update(cell.verdicts)
        seen.update(cell.seen)
        played.update(histories=1, commands=cell.commands, accepted=cell.accepted)

    play()
    missed = {
        module.__name__: sorted(lines_of(module) - tracer.lines[module.__file__])
        for module in MODULES[1:]
    }
    print(dict(played))
    for title, counts in (("verdicts", verdicts), ("told", seen)):
        print(title, {reason.name: count for reason, count in sorted(counts.items())})
    assert played["commands"] >= 100_000
    assert played["accepted"] > 0.1 * played["commands"], "refusing everything is no solution"
    assert not any(missed.values()), f"lines that no history has led to: {missed}"
    assert reasons_in(MODULES) - set(seen) == set(), "reasons that no history has led to"
