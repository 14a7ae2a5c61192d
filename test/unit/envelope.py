# SPDX-License-Identifier: Apache-2.0
"""What may be sent to a robot, stated a second time and apart from the code that decides it.

An `Envelope` is told all that a controller is told, in the same order, and raises an AssertionError
about a motion that must not have been sent. It uses nothing of `vjepa2_ros.robot.safety`,
`state_watch` and `reachability`.
"""

import math

import numpy as np
from scipy.spatial.transform import Rotation

from vjepa2_ros.robot.driver import RobotMode
from vjepa2_ros.robot.reason import Reason

ROUNDING = 1e-7
LATCHING = {
    Reason.NOT_FINITE,
    Reason.INVALID,
    Reason.STEP_TOO_LARGE,
    Reason.ROTATION_TOO_LARGE,
    Reason.ROBOT_REFUSED,
}
"""Refusals that only a broken planner or robot gives."""


class Envelope:
    """Judges motions, from all that has happened before.

    Args:
        limits: may be replaced at any time.
        description: of the robot.
    """

    def __init__(self, limits, description):
        self.limits = limits
        self.description = description
        self.state = None
        self.blocked = ""
        self.goal, self.sequence, self.over = "", 0, set()
        self.sent_at = self.halted = -math.inf
        self.mode = RobotMode.READY
        self.gripper_problem = ""
        self._way = []  # (stamp, position) since the last break
        self._tool = None

    # What happens

    def read(self, state, now, moving):
        """The controller has read a state."""
        if self.state is None and now - state.stamp > self.limits.max_state_age:
            return
        self.state = state
        problem = self._state_problem(state, now)
        old = now - state.stamp > self.limits.max_state_age
        if problem == "not of now" and old and not moving and not self.goal:
            pass  # Nothing moves: whoever commands now is refused for it.
        elif problem:
            self.block(problem, now)
        else:
            self._follow(state, now)
        pressed = self._pressed(state)
        stopped = self.gripper_problem == "" and state.gripper_problem
        if state.mode != self.mode and not self.blocked:
            if state.mode == RobotMode.READY:
                self.halted = now
            elif state.mode == RobotMode.USER_STOPPED:
                self.end_goals(now)
            elif state.mode == RobotMode.FAULTED:
                self.block("the robot reports an error", now)
        if stopped:
            self.end_goals(now)
        if moving and pressed and state.mode == self.mode and not stopped:
            self.block(pressed, now)
        self.mode, self.gripper_problem = state.mode, state.gripper_problem

    def unreadable(self, now):
        """The controller could not read the robot."""
        if self.state is not None:
            self.block("unreadable", now)

    def block(self, why, now):
        """Nothing may move until a reset."""
        if not self.blocked:
            self.blocked = why
            self.end_goals(now)

    def end_goals(self, now):
        """All goals so far are over, and all that was planned from what was seen so far."""
        if self.goal:
            self.over.add(self.goal)
        self.goal, self.sequence = "", 0
        self.halted = now

    def reset(self, now):
        """The fault was reset."""
        self.blocked = ""
        self.end_goals(now)

    def refused(self, verdict, now):
        """A command was refused."""
        if verdict.reason in LATCHING:
            self.block("a violation", now)

    # What may be sent

    def sent(self, command, pose, now, steady):
        """A motion to a pose (position, quaternion, closedness) was sent for a command."""
        assert not self.blocked, f"sent while blocked: {self.blocked}"
        assert self.state is not None
        self._judge_values(command)
        self._judge_order(command, now, steady)
        self._judge_state(now)
        self._judge_pose(command, *pose)
        if command.goal_id != self.goal:
            if self.goal:
                self.over.add(self.goal)
            self.goal = command.goal_id
        self.sequence, self.sent_at = command.sequence, steady

    def _judge_values(self, command):
        numbers = [*command.position, *command.quaternion_xyzw]
        numbers += [command.gripper_closedness, command.lifetime, command.observation_stamp]
        assert all(math.isfinite(number) for number in numbers)
        assert command.frame == self.limits.cell.frame.base_frame
        assert abs(math.hypot(*command.quaternion_xyzw) - 1.0) <= 1e-3 + ROUNDING
        assert 0.0 <= command.gripper_closedness <= 1.0
        assert 0.0 <= command.lifetime <= 60.0
        assert 1 <= len(command.goal_id) <= 128

    def _judge_order(self, command, now, steady):
        assert command.goal_id not in self.over, "a goal that is over"
        last = self.sequence if command.goal_id == self.goal else 0
        assert 1 <= command.sequence - last <= 1000, (command.sequence, last)
        assert steady - self.sent_at >= 1.0 / self.limits.max_command_rate - ROUNDING
        age = now - command.observation_stamp
        assert age <= self.limits.cell.age.max_observation_age + ROUNDING
        assert age >= -self.limits.max_state_age - ROUNDING
        assert command.observation_stamp > self.halted, "seen before the halt"

    def _judge_state(self, now):
        assert self._state_problem(self.state, now, ROUNDING) == ""
        assert self._pressed(self.state, ROUNDING) == ""
        assert self.state.mode == RobotMode.READY

    def _judge_pose(self, command, position, quaternion, closedness):
        limits, state = self.limits, self.state
        assert closedness == command.gripper_closedness
        assert list(quaternion) == list(command.quaternion_xyzw)
        here, there = [float(x) for x in state.position], [float(x) for x in position]
        wanted = [float(x) for x in command.position]
        for target in (there, wanted):
            step = max(abs(a - b) for a, b in zip(target, here, strict=True))
            assert step <= limits.max_step + ROUNDING, step
        assert _angle(quaternion, state.quaternion_xyzw) <= limits.max_rotation + 1e-6
        if self.outside(wanted) == 0.0:
            assert math.dist(wanted, there) < ROUNDING, "a good target was changed"
        if self.outside(there) > ROUNDING:
            # The robot was outside, by more than a step: then straight back, nearer all the way.
            inside = [min(max(w, a), b) for w, a, b in zip(wanted, *self._box(), strict=True)]
            away = max(abs(a - b) for a, b in zip(inside, here, strict=True))
            assert away > limits.max_step, "it could have gone inside"
            ways = [
                self.outside([h + share * (t - h) for h, t in zip(here, there, strict=True)])
                for share in (0.0, 0.25, 0.5, 0.75, 1.0)
            ]
            assert all(b < a for a, b in zip(ways, ways[1:], strict=False)), ways
        if state.joint_positions is not None:
            self._judge_joints(position, quaternion)

    def _box(self):
        workspace = self.limits.cell.workspace
        x, y, z = workspace.lower
        return (x, y, max(z, self.limits.table_height)), workspace.upper

    def outside(self, position):
        """Distance to the workspace above the table [m]."""
        ways = [max(a - p, 0.0, p - b) for p, a, b in zip(position, *self._box(), strict=True)]
        return math.hypot(*ways)

    # What was measured

    def _state_problem(self, state, now, rounding=0.0):
        optional = [state.joint_positions, state.wrench]
        numbers = [*state.position, *state.quaternion_xyzw, state.gripper_closedness, state.stamp]
        for values in optional:
            numbers += [] if values is None else list(values)
        if not all(math.isfinite(number) for number in numbers):
            return "not finite"
        if abs(math.hypot(*state.quaternion_xyzw) - 1.0) > 1e-3 + rounding:
            return "no orientation"
        if abs(now - state.stamp) > self.limits.max_state_age + rounding:
            return "not of now"
        return ""

    def _pressed(self, state, rounding=0.0):
        if state.wrench is None:
            return ""
        if math.hypot(*state.wrench[:3]) > self.limits.max_force + rounding:
            return "a force"
        if math.hypot(*state.wrench[3:]) > self.limits.max_torque + rounding:
            return "a torque"
        return ""

    def _follow(self, state, now):
        position = [float(x) for x in state.position]
        if self._way:
            stamp, last = self._way[-1]
            seconds = state.stamp - stamp
            if -self.limits.max_state_age <= seconds <= 0.0:
                return
            reach = self.limits.max_state_speed * seconds + 0.01
            if seconds < 0.0 or math.dist(position, last) > reach:
                self._way = []
                self.block("a jump", now)
            elif state.mode == RobotMode.USER_STOPPED:
                self._way = []
        self._way.append((state.stamp, position))
        old = [entry for entry in self._way if state.stamp - entry[0] >= 0.1]
        if old:
            stamp, before = old[-1]
            if math.dist(position, before) > self.limits.max_speed * (state.stamp - stamp):
                self.block("a speed", now)
            self._way = self._way[self._way.index(old[-1]) :]

    # Joints

    def _judge_joints(self, position, quaternion):
        """The joints of the pose, by undamped steps, keep their distance from the limits."""
        kinematics, joints = self.description.kinematics, self.state.joint_positions
        here = kinematics.forward(joints)
        if self._tool is None:
            inverse = here[1].inv()
            self._tool = (
                inverse.apply(self.state.position - here[0]),
                inverse * Rotation.from_quat(self.state.quaternion_xyzw),
            )
        rotation = Rotation.from_quat(quaternion) * self._tool[1].inv()
        place = position - rotation.apply(self._tool[0])
        solved = np.array(joints)
        for _ in range(20):
            now = kinematics.forward(solved)
            error = np.concatenate([place - now[0], (rotation * now[1].inv()).as_rotvec()])
            if np.abs(error).max() < 1e-6:
                break
            step = np.linalg.pinv(kinematics.jacobian(solved)) @ error
            solved = solved + step * min(1.0, 0.3 / np.abs(step).max())
        assert math.hypot(*error[:3]) < 0.006, "beyond reach"
        assert math.hypot(*error[3:]) < 0.06, "beyond reach"
        margin = self.limits.joint_margin
        lower = np.minimum(self.description.joint_lower + margin, joints)
        upper = np.maximum(self.description.joint_upper - margin, joints)
        # The way of the joints to a pose is not unique: to 0.02 rad.
        assert (solved > lower - 0.02).all(), solved - lower
        assert (solved < upper + 0.02).all(), upper - solved


def _angle(first, second):
    dot = abs(sum(a * b for a, b in zip(first, second, strict=True)))
    return 2.0 * math.acos(min(1.0, dot / math.hypot(*first) / math.hypot(*second)))
