# SPDX-License-Identifier: Apache-2.0
"""Execution of a goal as a state machine, from its start to its end.

It decides when an image is planned from, what happens to a plan, and when a step is over. It has no
threads, topics or messages: the planner node and the evaluation feed it and carry out what it
decides. Times are those of two clocks, `now` of the stamps and `steady_now` of one that never
jumps.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable

from vjepa2_ros.execution.goal import Goal, GoalTicket
from vjepa2_ros.execution.goal_status import GoalState, GoalStatus, Note
from vjepa2_ros.execution.observation import EncodedImage, Observation, observation_of
from vjepa2_ros.execution.robot_report import RobotReport
from vjepa2_ros.execution.state_history import StateHistory
from vjepa2_ros.planning.receding_horizon import RecedingHorizon
from vjepa2_ros.planning.step import Step
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.robot.safety import MotionCommand
from vjepa2_ros.settings.planning import ExecutionSettings
from vjepa2_ros.world_model.poses import pose_from_state

MOST_SETBACKS = 3
"""Consecutive commands without effect after which a goal fails."""
SILENCE = 1.0
"""Time without images after which the status says so [s]."""


class GoalExecution:
    """Executes one goal at a time; a new one replaces it.

    Args:
        settings: of the goals to come; a goal keeps those it was started with.
        max_translation: bound of one action on each axis [m].
        now: seconds of the clock of the stamps.
        steady_now: seconds of a clock that never jumps.
        plan: begins to plan from an observation; the outcome goes to `planned`.
        send: sends a command; its reason is PLANNED_AT_REST or PLANNED_IN_MOTION.
        show: publishes a status.

    Attributes:
        goal: the goal in execution, None without one.
        robot: the newest report of the controller, None before the first.
        hindrance: what keeps a goal waiting, or why a command had no effect; None while all is
            well.
    """

    def __init__(
        self,
        settings: ExecutionSettings,
        max_translation: float,
        now: Callable[[], float],
        steady_now: Callable[[], float],
        plan: Callable[[Observation], None],
        send: Callable[[MotionCommand, Reason], None],
        show: Callable[[GoalStatus], None],
    ) -> None:
        self.settings = settings
        self.max_translation = max_translation
        self._now = now
        self._steady_now = steady_now
        self._plan = plan
        self._send = send
        self._show = show
        # As far back as the oldest image that may be planned from.
        span = settings.cell.age.max_observation_age + settings.state_tolerance
        self._reports: StateHistory[RobotReport] = StateHistory(span)
        self._sent = ("", 0)
        self._image_came, self._image_stamp = steady_now(), math.nan
        self._has_seen = False
        self._latent_problem: Note | None = None
        self.goal: Goal | None = None
        self.robot: RobotReport | None = None
        self.hindrance: Note | None = None

    # Beginning and end ----------------------------------------------------------------------

    def not_ready(self) -> Note | None:
        """Why a goal cannot be started now; None if it can."""
        if self._latent_problem is not None:
            return self._latent_problem
        if not self._has_seen:
            return Note(
                Reason.NO_IMAGE,
                "no image has arrived yet: check that the camera publishes camera/image_raw and "
                "that encoder_node is active, then set the goal again",
            )
        if self.robot is None:
            return Note(
                Reason.NO_ROBOT_STATE,
                "the robot has not given a state yet: check the robot, then set the goal again",
            )
        if self.robot.has_fault:
            return Note(
                Reason.CONTROLLER_FAULT,
                f"the controller reports a fault: {self.robot.fault}; call reset_fault first",
            )
        if not self.robot.is_ready:
            return Note(
                Reason.ROBOT_NOT_READY, f"the robot takes no commands: {self.robot.state.mode_text}"
            )
        return None

    def ticket(self) -> GoalTicket:
        """What `start` needs to know of the moment when a goal is requested."""
        return GoalTicket(self._now(), self.robot.halts if self.robot is not None else 0)

    def awaits_report(self, ticket: GoalTicket) -> bool:
        """Whether the newest report is of a fault that may be over when a goal is requested."""
        robot = self.robot
        return robot is not None and robot.has_fault and robot.stamp < ticket.stamp

    def halted_since(self, ticket: GoalTicket) -> bool:
        """Whether the controller has ended all goals after a goal was requested."""
        robot = self.robot
        return robot is not None and robot.halts != ticket.halts and robot.last_halt >= ticket.stamp

    def start(self, loop: RecedingHorizon, ticket: GoalTicket) -> str:
        """Execute a new goal from now on; the robot must have reported before.

        Args:
            loop: made for the goal.
            ticket: of the request for the goal.

        Returns:
            The goal's id.
        """
        if self.goal is not None:
            self.finish(GoalState.REPLACED, Reason.REPLACED, "replaced by a new goal")
        self.hindrance = None
        goal_id = f"goal-{uuid.uuid4().hex[:8]}"
        self.goal = goal = Goal(
            goal_id, loop, ticket, self.settings, self.max_translation, not_before=self._now()
        )
        if self.robot.moving:
            # The last step of the goal before is allowed to finish.
            goal.deadline = self._steady_now() + goal.settings.step_duration
            goal.state, goal.reason = GoalState.MOVING, Reason.WAITING_FOR_ROBOT
            goal.message = "waiting for the robot to finish its last step"
        # Shown with the next tick: on a topic of depth 1, a status right after the end of the goal
        # before would replace that one before it is sent.
        return goal.goal_id

    def finish(self, state: GoalState, reason: Reason, message: str) -> None:
        """End the goal; a plan being made for it is dropped when it comes."""
        self._enter(state, reason, message)
        self.goal = None

    # Inputs ---------------------------------------------------------------------------------

    def wants_image(self, stamp: float) -> bool:
        """Whether an image captured at `stamp` [s] would be planned from."""
        goal = self.goal
        return goal is not None and self._is_looking(goal) and goal.accepts_image_of(stamp)

    def observe(self, image: EncodedImage) -> None:
        """Take an image, encoded by the goal's model; plan from it if the goal needs one."""
        if image.stamp != self._image_stamp:
            # A camera that has frozen may go on sending its last image.
            self._image_came, self._image_stamp = self._steady_now(), image.stamp
        self._has_seen = True
        self._latent_problem = None
        goal = self.goal
        if goal is None or not self._is_looking(goal):
            return
        if not self.robot.is_ready:
            self.hindrance = Note(Reason.ROBOT_NOT_READY, self.robot.state.mode_text)
            return
        now = self._now()
        age = now - image.stamp
        if age > goal.settings.cell.age.max_observation_age:
            message = f"the newest image is {age:.2f} s old: too old to plan from"
            self.hindrance = Note(Reason.IMAGE_STALE, message)
            return
        if not goal.accepts_image_of(image.stamp):
            return
        observation = observation_of(goal, image, now, self.robot, self._reports)
        if isinstance(observation, Note):
            self.hindrance = observation
            return
        self.hindrance = None
        goal.planning = True
        if observation.ahead is None:
            self._enter(GoalState.PLANNING, Reason.PLANNING, "planning")
        self._plan(observation)

    def refuse_latent(self, problem: str) -> None:
        """Note that a latent arrived that cannot be used; goals are refused until a good one."""
        self._image_came = self._steady_now()
        self._latent_problem = self.hindrance = Note(Reason.LATENT_INVALID, problem)

    def robot_moved(self, report: RobotReport) -> None:
        """Take a report of the controller; it may end the step, or the goal."""
        self.robot = report
        self._reports.add(report.stamp, report)
        goal = self.goal
        if goal is None:
            return
        if report.has_fault:
            message = f"the controller reports a fault: {report.fault}"
            self.finish(GoalState.FAILED, Reason.CONTROLLER_FAULT, message)
        elif self.halted_since(goal.ticket):
            message = f"the controller ended it: {report.message}"
            self.finish(GoalState.STOPPED, Reason.CONTROLLER_HALTED, message)
        elif goal.state == GoalState.MOVING:
            if report.accepted == self._sent and not report.moving and report.is_ready:
                goal.setbacks = 0
                if goal.planning:
                    self._enter(GoalState.PLANNING, Reason.PLANNING, "planning")
                else:
                    self._end_step(goal, report.stamp)
            elif report.refused == self._sent != report.accepted:
                reason = report.refused_reason or Reason.COMMAND_NOT_TAKEN
                self._set_back(goal, Note(reason, report.message))

    def planned(self, observation: Observation, outcome: Step | Exception) -> None:
        """Take the outcome of a plan: send the step, or say why not."""
        goal = self.goal
        if goal is None or goal.goal_id != observation.goal_id:
            return
        goal.planning = False
        if isinstance(outcome, Exception):
            message = f"planning failed: {outcome}"
            self.finish(GoalState.FAILED, Reason.PLANNING_FAILED, message)
            return
        goal.step = step = outcome
        goal.observation_age = observation.age
        goal.encode_seconds = observation.image.encode_seconds
        goal.command_latency = 0.0
        limit = goal.settings.max_surprise
        if limit and step.surprise > limit:
            message = (
                f"what is seen differs by {step.surprise:.3f} from what was predicted, more than "
                f"max_surprise {limit:g}: look at the scene, then set the goal again"
            )
            self.finish(GoalState.STOPPED, Reason.SURPRISED, message)
            return
        age = self._now() - observation.image.stamp
        allowed = goal.settings.cell.age.max_observation_age
        if step.finished == "reached":
            if "reached" in step.answers:
                message = f"seen reached by {step.answers['reached']:.0%} after {step.step} steps"
                self.finish(GoalState.REACHED, Reason.SEEN_REACHED, message)
                return
            message = f"the energy does not fall any more after {step.step} steps"
            self.finish(GoalState.REACHED, Reason.NO_IMPROVEMENT, message)
        elif age > allowed:
            message = (
                f"the image was {age:.2f} s old when its plan was done, and at most {allowed:.2f} "
                "s are allowed: raise max_observation_age, or lower `evaluations` of the search"
            )
            self._set_back(goal, Note(Reason.PLAN_TOO_LATE, message))
        elif observation.ahead is not None and (problem := self.robot.state.problem()):
            self._set_back(goal, Note(Reason.STATE_INVALID, problem))
        else:
            self._command(goal, observation, step, age)

    def tick(self) -> None:
        """Check deadlines, say what is missing, and publish the status as a heartbeat."""
        goal = self.goal
        if goal is None:
            return
        if goal.state == GoalState.MOVING and self._steady_now() > goal.deadline:
            self._step_timed_out(goal)
        elif goal.state == GoalState.WAITING:
            silence = self._steady_now() - self._image_came
            if silence > SILENCE:
                message = (
                    f"no new image for {silence:.1f} s, the robot holds: check camera and "
                    "encoder_node"
                )
                self.hindrance = Note(Reason.NO_IMAGE, message)
            if self.hindrance is not None:
                goal.reason, goal.message = self.hindrance.reason, self.hindrance.message
        if self.goal is not None:
            self._show(self.goal.status())

    # ----------------------------------------------------------------------------------------

    def _is_looking(self, goal: Goal) -> bool:
        """Whether the goal needs an image: at rest, or in motion where plans overlap motions."""
        if goal.planning:
            return False
        if goal.state == GoalState.WAITING:
            return True
        return (
            goal.settings.overlap
            and goal.state == GoalState.MOVING
            and goal.target is not None
            and not goal.step.finished
            and self.robot.moving
            and self.robot.accepted == self._sent
        )

    def _command(self, goal: Goal, observation: Observation, step: Step, age: float) -> None:
        target = step.target_state.double().numpy()
        if observation.ahead is not None:
            # If the robot is not where it was expected, the step from there keeps to its bound.
            here = self.robot.state.position
            bound = goal.max_translation
            target[:3] = target[:3].clip(here - bound, here + bound)
        position, quaternion, closedness = pose_from_state(target)
        goal.sequence += 1
        self._sent = goal.goal_id, goal.sequence
        goal.command_latency, goal.commanded = age, self._now()
        goal.target = position
        goal.deadline = self._steady_now() + goal.settings.step_duration
        command = MotionCommand(
            goal_id=goal.goal_id,
            sequence=goal.sequence,
            observation_stamp=observation.image.stamp,
            position=position,
            quaternion_xyzw=quaternion,
            gripper_closedness=closedness,
            lifetime=goal.settings.command_lifetime,
            frame=observation.frame,
        )
        # Before it is sent: a controller in the same process answers at once.
        self._enter(GoalState.MOVING, Reason.STEP_SENT, f"step {step.step}")
        at_rest = observation.ahead is None
        self._send(command, Reason.PLANNED_AT_REST if at_rest else Reason.PLANNED_IN_MOTION)

    def _end_step(self, goal: Goal, not_before: float) -> None:
        """End at the step limit, or wait for an image captured after `not_before` [s]."""
        goal.not_before = not_before
        if goal.step is not None and goal.step.finished:
            message = f"all {goal.step.step} steps were made"
            self.finish(GoalState.STEP_LIMIT, Reason.ALL_STEPS_MADE, message)
        else:
            self._enter(GoalState.WAITING, Reason.WAITING_FOR_IMAGE, "waiting for the next image")

    def _set_back(self, goal: Goal, cause: Note) -> None:
        """A command had no effect: plan from a new image, a limited number of times."""
        goal.setbacks += 1
        self.hindrance = cause
        if goal.setbacks >= MOST_SETBACKS:
            self.finish(GoalState.FAILED, cause.reason, cause.message)
        elif goal.step is not None and goal.step.finished:
            message = f"the last step had no effect: {cause.message}"
            self.finish(GoalState.FAILED, cause.reason, message)
        elif self.robot.moving and self.robot.accepted[0] == goal.goal_id:
            # The command before is still being carried out.
            self._sent = self.robot.accepted
            goal.deadline = self._steady_now() + goal.settings.step_duration
            self._enter(GoalState.MOVING, cause.reason, cause.message)
        else:
            goal.not_before = self._now()
            self._enter(GoalState.WAITING, cause.reason, cause.message)

    def _step_timed_out(self, goal: Goal) -> None:
        if self.robot.accepted == self._sent or goal.step is None:
            self._end_step(goal, self._now())
        else:
            message = (
                f"controller_node did not take command {self._sent[1]} within "
                f"{goal.settings.step_duration} s; is it active?"
            )
            self._set_back(goal, Note(Reason.COMMAND_NOT_TAKEN, message))

    def _enter(self, state: GoalState, reason: Reason, message: str) -> None:
        goal = self.goal
        goal.state, goal.reason, goal.message = state, reason, message
        self._show(goal.status())
