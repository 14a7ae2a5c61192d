# SPDX-License-Identifier: Apache-2.0
"""The pursuit of a goal, from its acceptance to its end, as a state machine.

It decides when an image may be planned from, what becomes of a plan, and when a step is over. It
knows nothing of topics and threads: the planner node feeds it and carries out what it decides.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from std_msgs.msg import Header

from vjepa2_ros.execution.state_history import StateHistory
from vjepa2_ros.msg import Command, PlanningStatus, RobotState
from vjepa2_ros.planning.receding_horizon import RecedingHorizon, Step
from vjepa2_ros.ros.conversions import duration, pose_message, robot_state, seconds, stamp
from vjepa2_ros.world_model.poses import pose_from_state, state_from_pose

TERMINAL = frozenset(
    {
        PlanningStatus.REACHED,
        PlanningStatus.STEP_LIMIT,
        PlanningStatus.CANCELLED,
        PlanningStatus.STOPPED,
        PlanningStatus.FAILED,
        PlanningStatus.REPLACED,
    }
)
"""States from which a goal does not return."""
# Commands in a row that come to nothing before the goal is given up.
_MOST_SETBACKS = 3
# Silence of the camera that is worth telling [s].
_SILENCE = 1.0


@dataclass
class Goal:
    """One goal and how far it has come.

    not_before: images captured earlier [s] show the robot before its last step and are not
        planned from. deadline: when to look again although the robot has not reported the end of
        its step [steady s]. setbacks: commands in a row that came to nothing. planning: a plan is
        under way. commanded, target: when the last command went out [s] and where to [3] in metres.
    """

    goal_id: str
    loop: RecedingHorizon
    not_before: float
    state: int = PlanningStatus.WAITING
    message: str = "waiting for an image"
    deadline: float = math.inf
    setbacks: int = 0
    planning: bool = False
    commanded: float = -math.inf
    target: np.ndarray | None = None
    step: Step | None = None
    observation_age: float = 0.0
    encode_seconds: float = 0.0
    command_latency: float = 0.0

    def status(self) -> PlanningStatus:
        """Status message without its header."""
        step = self.step
        return PlanningStatus(
            goal_id=self.goal_id,
            state=self.state,
            subgoal=step.subgoal if step else 0,
            subgoals=len(self.loop.goals),
            step=step.step if step else 0,
            energy=step.energy if step else math.nan,
            predicted_energy=step.predicted_energy if step else math.nan,
            observation_age=self.observation_age,
            encode_seconds=self.encode_seconds,
            plan_seconds=step.plan_seconds if step else 0.0,
            command_latency=self.command_latency,
            message=self.message,
        )


@dataclass(frozen=True)
class Observation:
    """What a plan is made from: the latent [N, D] of an image captured at `stamp` [s] and the
    state [7] measured with it, for the goal pursued then; for a robot under way also the state
    [7] ahead, where it is expected when the command goes out."""

    goal: Goal
    latent: torch.Tensor
    state: torch.Tensor
    ahead: torch.Tensor | None
    stamp: float
    base_frame: str
    age: float
    encode_seconds: float


class Pursuit:
    """Pursues one goal at a time; a new one replaces it.

    settings: step_duration, overlap, max_translation, command_lifetime, max_observation_age,
        state_tolerance (planner_node).
    clock, steady_clock: seconds of the stamps, and seconds that never jump.
    plan: starts to plan from an observation; the outcome comes back to `planned`.
    send, show: publish a command, and a status without its header.
    """

    def __init__(
        self,
        settings: SimpleNamespace,
        clock: Callable[[], float],
        steady_clock: Callable[[], float],
        plan: Callable[[Observation], None],
        send: Callable[[Command], None],
        show: Callable[[PlanningStatus], None],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._steady_clock = steady_clock
        self._plan = plan
        self._send = send
        self._show = show
        # As far back as the oldest image that may be planned from.
        span = settings.max_observation_age + settings.state_tolerance
        self._states: StateHistory[RobotState] = StateHistory(span)
        self._robot: RobotState | None = None
        self._sent = ("", 0)
        self._sequence = 0
        self._image_came = steady_clock()
        self.goal: Goal | None = None
        self.trouble = ""

    @property
    def robot(self) -> RobotState | None:
        """The newest state of the robot."""
        return self._robot

    # Beginning and end ----------------------------------------------------------------------

    def start(self, loop: RecedingHorizon) -> str:
        """Pursue a new goal from now on; returns its id."""
        if self.goal is not None:
            self.finish(PlanningStatus.REPLACED, "replaced by a new goal")
        self.trouble = ""
        self.goal = Goal(f"goal-{uuid.uuid4().hex[:8]}", loop, not_before=self._clock())
        if self.robot.moving:
            # The last step of the goal before is let finish, and the first plan made from there.
            self.goal.deadline = self._steady_clock() + self._settings.step_duration
            self.goal.state = PlanningStatus.MOVING
            self.goal.message = "waiting for the robot to finish its last step"
        # Shown with the next tick: right after the end of the goal before, it would overwrite that
        # in the depth of one before it is sent.
        return self.goal.goal_id

    def finish(self, state: int, message: str) -> None:
        """End the goal in a terminal state; what is still being planned for it is dropped."""
        self._enter(state, message)
        self.goal = None

    # What comes in --------------------------------------------------------------------------

    def observe(self, latent: torch.Tensor, image_stamp: float, encode_seconds: float) -> None:
        """Take the latent [N, D] of an image captured at image_stamp [s]; plan from it if due."""
        self._image_came = self._steady_clock()
        goal = self.goal
        if goal is None or goal.planning:
            return
        overlapping = self._may_overlap(goal)
        if goal.state != PlanningStatus.WAITING and not overlapping:
            return
        age = self._clock() - image_stamp
        state = self._states.nearest(image_stamp, self._settings.state_tolerance)
        if age > self._settings.max_observation_age:
            self.trouble = f"the newest image is {age:.2f} s old: too old to plan from"
        elif image_stamp <= max(goal.not_before, goal.commanded):
            return
        elif state is None:
            self.trouble = "no robot_state was measured at the time of the image"
        elif problem := robot_state(state).problem():
            self.trouble = problem
        else:
            self.trouble = ""
            frame = state.header.frame_id
            ahead = self._expected(goal, image_stamp) if overlapping else None
            observation = Observation(
                goal, latent, _state(state), ahead, image_stamp, frame, age, encode_seconds
            )
            goal.planning = True
            if ahead is None:
                self._enter(PlanningStatus.PLANNING, "planning")
            self._plan(observation)

    def robot_moved(self, message: RobotState) -> None:
        """Take a state of the robot; it may end the step, or the goal."""
        halted = self._robot is not None and message.halts != self._robot.halts
        self._robot = message
        self._states.add(seconds(message.header.stamp), message)
        goal = self.goal
        if goal is None:
            return
        if message.fault:
            self.finish(PlanningStatus.FAILED, f"the controller reports a fault: {message.fault}")
        elif halted:
            self.finish(PlanningStatus.STOPPED, f"the controller ended it: {message.message}")
        elif goal.state == PlanningStatus.MOVING:
            if (message.goal_id, message.sequence) == self._sent and not message.moving:
                goal.setbacks = 0
                if goal.planning:
                    self._enter(PlanningStatus.PLANNING, "planning")
                else:
                    self._look_again(goal, seconds(message.header.stamp))
            elif (message.refused_goal_id, message.refused_sequence) == self._sent:
                self._set_back(goal, message.message)

    def planned(self, observation: Observation, step: Step | Exception) -> None:
        """Take the outcome of a plan: send it, or say why not."""
        goal = observation.goal
        if goal is not self.goal:
            return
        goal.planning = False
        if isinstance(step, Exception):
            self.finish(PlanningStatus.FAILED, f"planning failed: {step}")
            return
        goal.step = step
        goal.observation_age, goal.encode_seconds = observation.age, observation.encode_seconds
        goal.command_latency = 0.0
        age, allowed = self._clock() - observation.stamp, self._settings.max_observation_age
        if step.finished == "reached":
            self.finish(
                PlanningStatus.REACHED, f"no better step is foreseen after {step.step} steps"
            )
        elif age > allowed:
            self._set_back(
                goal,
                f"the image was {age:.2f} s old when its plan was done, and at most "
                f"{allowed:.2f} s are allowed: lower `evaluations`, or raise "
                "max_observation_age",
            )
        else:
            self._command(observation, step, age)

    def tick(self) -> None:
        """Look after deadlines, name what is missing, and show the status as a sign of life."""
        goal = self.goal
        if goal is None:
            return
        if goal.state == PlanningStatus.MOVING and self._steady_clock() > goal.deadline:
            self._give_up_waiting(goal)
        elif goal.state == PlanningStatus.WAITING:
            silence = self._steady_clock() - self._image_came
            if silence > _SILENCE:
                self.trouble = (
                    f"no image for {silence:.1f} s, the robot holds: see camera and encoder_node"
                )
            goal.message = self.trouble or goal.message
        if self.goal is not None:
            self._show(self.goal.status())

    # ----------------------------------------------------------------------------------------

    def _command(self, observation: Observation, step: Step, age: float) -> None:
        goal = observation.goal
        target = step.target_state.double().numpy()
        if observation.ahead is not None:
            # Should the robot be elsewhere than expected, the step from there keeps to its bound.
            here = _state(self.robot).double().numpy()[:3]
            bound = self._settings.max_translation
            target[:3] = target[:3].clip(here - bound, here + bound)
        position, quaternion, closedness = pose_from_state(target)
        self._sequence += 1
        self._sent = goal.goal_id, self._sequence
        goal.command_latency, goal.commanded = age, self._clock()
        goal.target = position
        goal.deadline = self._steady_clock() + self._settings.step_duration
        self._send(
            Command(
                header=Header(stamp=stamp(observation.stamp), frame_id=observation.base_frame),
                goal_id=goal.goal_id,
                sequence=self._sent[1],
                pose=pose_message(position, quaternion),
                gripper_closedness=float(closedness),
                lifetime=duration(self._settings.command_lifetime),
            )
        )
        self._enter(PlanningStatus.MOVING, f"step {step.step}")

    def _may_overlap(self, goal: Goal) -> bool:
        """Whether to plan on while the robot is under way to the last target."""
        return (
            self._settings.overlap
            and goal.state == PlanningStatus.MOVING
            and goal.step is not None
            and not goal.step.finished
            and self.robot.moving
            and (self.robot.goal_id, self.robot.sequence) == self._sent
        )

    def _expected(self, goal: Goal, image_stamp: float) -> torch.Tensor:
        """State [7] of the robot when the command planned from this image goes out.

        As late after the image as the last command was; at the speed of the last tenth of a second,
        but not past the target.
        """
        now = seconds(self.robot.header.stamp)
        state = _state(self.robot)
        before = self._states.nearest(now - 0.1, tolerance=0.05)
        if before is None:
            return state
        elapsed = now - seconds(before.header.stamp)
        speed = (state[:3] - _state(before)[:3]) / max(elapsed, 1e-3)
        ahead = max(0.0, image_stamp + goal.command_latency - now)
        to_target = torch.from_numpy(goal.target).float() - state[:3]
        way = speed * ahead
        if way.norm() > to_target.norm():
            way = to_target
        state[:3] += way
        return state

    def _look_again(self, goal: Goal, not_before: float) -> None:
        """The step is over: end at the step limit, or plan from the next image."""
        goal.not_before = not_before
        if goal.step is not None and goal.step.finished:
            self.finish(PlanningStatus.STEP_LIMIT, f"all {goal.step.step} steps were made")
        else:
            self._enter(PlanningStatus.WAITING, "waiting for the next image")

    def _set_back(self, goal: Goal, reason: str) -> None:
        """A command came to nothing: try again from a new image, but not for ever."""
        goal.setbacks += 1
        self.trouble = reason
        if goal.setbacks >= _MOST_SETBACKS:
            self.finish(PlanningStatus.FAILED, reason)
        elif goal.step is not None and goal.step.finished:
            self.finish(PlanningStatus.FAILED, f"the last step came to nothing: {reason}")
        elif self.robot.moving and self.robot.goal_id == goal.goal_id:
            # The command before goes on; the next look is when it is done.
            self._sent = self.robot.goal_id, self.robot.sequence
            goal.deadline = self._steady_clock() + self._settings.step_duration
            self._enter(PlanningStatus.MOVING, reason)
        else:
            self._look_again(goal, self._clock())

    def _give_up_waiting(self, goal: Goal) -> None:
        taken = (self.robot.goal_id, self.robot.sequence) == self._sent
        if taken or goal.step is None:
            self._look_again(goal, self._clock())
        else:
            self._set_back(
                goal,
                f"controller_node did not take command {self._sent[1]} within "
                f"{self._settings.step_duration} s; is it active?",
            )

    def _enter(self, state: int, message: str) -> None:
        self.goal.state, self.goal.message = state, message
        self._show(self.goal.status())


def _state(message: RobotState) -> torch.Tensor:
    measured = robot_state(message)
    values = state_from_pose(
        measured.position, measured.quaternion_xyzw, measured.gripper_closedness
    )
    return torch.from_numpy(values).float()
