# SPDX-License-Identifier: Apache-2.0
"""Latents, robot states and goals in, commands out.

The node owns the goal: it takes it by service, feeds observations to the receding-horizon loop in
a worker thread, sends what comes out, waits until the robot has done it, and looks again.
"""

from __future__ import annotations

import sys
import uuid

import torch
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from vjepa2_ros.msg import Command, Latent, PlanningStatus, RobotState
from vjepa2_ros.nodes.conversions import MessageError, duration, pose_message, robot_state, seconds, stamp
from vjepa2_ros.nodes.goal import STATE_NAMES, Goal, Observation
from vjepa2_ros.nodes.latents import latent_tensor
from vjepa2_ros.nodes.lifecycle import ManagedNode, Refused
from vjepa2_ros.nodes.mailbox import LatestWorker
from vjepa2_ros.nodes.model import MODEL_PARAMETERS, load_model
from vjepa2_ros.nodes.parameters import Parameter
from vjepa2_ros.nodes.planner_parameters import PLANNER_PARAMETERS, cem_config, loop_settings
from vjepa2_ros.nodes.qos import COMMAND, LATCHED, LATEST, STREAM
from vjepa2_ros.nodes.runner import run
from vjepa2_ros.nodes.state_history import StateHistory
from vjepa2_ros.planning.cem import CrossEntropyMethod
from vjepa2_ros.planning.receding_horizon import RecedingHorizon, Step
from vjepa2_ros.srv import EncodeImages, SetGoal
from vjepa2_ros.world_model.poses import pose_from_state, state_from_pose

HALT_TIMEOUT = 2.0
MOST_SETBACKS = 3


class PlannerNode(ManagedNode):
    """Pursues one goal at a time; a new one replaces it."""

    NAME = "planner_node"
    PARAMETERS = (
        *MODEL_PARAMETERS,
        *PLANNER_PARAMETERS,
        Parameter("step_duration", 3.0,
                  "time given to the robot for one step before it is looked at again", "s", 0.1, 60.0),
        Parameter("command_lifetime", 0.0,
                  "how long a command may keep the robot moving; 0 = the controller's default",
                  "s", 0.0, 60.0),
        Parameter("max_observation_age", 5.0,
                  "oldest image that may lead to a command, planning included", "s", 0.01, 600.0),
        Parameter("state_tolerance", 0.1,
                  "largest difference in time between an image and the state that goes with it",
                  "s", 0.001, 1.0),
        Parameter("encode_timeout", 30.0, "longest wait for the latents of the goal images",
                  "s", 0.1, 600.0),
        Parameter("status_rate", 5.0,
                  "rate of `status` while a goal is pursued; the controller halts when it falls silent",
                  "Hz", 1.0, 50.0),
    )  # fmt: skip

    def configure(self) -> None:
        settings = self.settings
        self._planner = CrossEntropyMethod(cem_config(settings))
        loop_settings(settings, [settings.steps_per_subgoal])
        self._model = load_model(settings)
        self.health.set("model", f"{self._model.name} {self._model.fingerprint}")
        self._worker = LatestWorker(self._plan, self._plan_later, self.post_error, "planner")
        self._states: StateHistory[RobotState] = StateHistory(span=10.0)
        self._goal: Goal | None = None
        self._latest_request = 0
        self._sent = ("", 0)
        self._latent_stamp: float | None = None
        self._latent_problem = ""
        self._commands = self.advertise(Command, "command", COMMAND)
        self._status = self.advertise(PlanningStatus, "status", LATCHED)
        self.subscribe(Latent, "latent", self._on_latent, LATEST)
        self.subscribe(RobotState, "robot_state", self._on_robot_state, STREAM)
        self._encoder = self.use_service(EncodeImages, "encode_images")
        self._halt = self.use_service(Trigger, "halt")
        self.serve(SetGoal, "set_goal", self._on_set_goal)
        self.serve(Trigger, "cancel", self._on_cancel)
        self.serve(Trigger, "stop", self._on_stop)
        self.every(1.0 / settings.status_rate, self._on_tick)

    def activate(self) -> None:
        self._publish(PlanningStatus(state=PlanningStatus.IDLE, message="no goal"))

    def deactivate(self) -> None:
        if getattr(self, "_goal", None) is not None:
            self._finish(PlanningStatus.CANCELLED, "the planner was deactivated")

    def cleanup(self) -> None:
        if hasattr(self, "_worker"):
            self._worker.close()
            del self._worker, self._model

    # Goals ----------------------------------------------------------------------------------

    async def _on_set_goal(
        self, request: SetGoal.Request, response: SetGoal.Response
    ) -> SetGoal.Response:
        steps = self._check_request(request)
        self._latest_request += 1
        ticket = self._latest_request
        try:
            answer = await self.answer_of(
                self._encoder, EncodeImages.Request(images=request.images), self.settings.encode_timeout
            )
        except TimeoutError:
            raise Refused(
                f"encoder_node gave no answer within {self.settings.encode_timeout} s; is it alive?"
            ) from None
        if not answer.success:
            raise Refused(answer.message)
        if not self.is_active or ticket != self._latest_request:
            raise Refused("another goal was set in the meantime, or the planner went down")
        try:
            goals = torch.stack([self._tensor(latent) for latent in answer.latents])
            loop = RecedingHorizon(
                self._planner, self._model, goals, loop_settings(self.settings, steps)
            )
        except ValueError as error:
            raise Refused(str(error)) from error
        response.accepted, response.goal_id = True, self._start(loop, len(steps))
        response.message = f"{len(steps)} sub-goal(s), at most {sum(steps)} steps; see `status`"
        return response

    def _check_request(self, request: SetGoal.Request) -> list[int]:
        """Refuse what cannot work; returns the steps of each sub-goal."""
        count = len(request.images)
        if not count:
            raise Refused("no goal image was sent; send one, or one for each sub-goal")
        steps = list(request.steps) or [self.settings.steps_per_subgoal] * count
        if len(steps) != count or min(steps) < 1:
            raise Refused(
                f"steps {steps} do not fit {count} image(s): give one number from 1 for each, or none"
            )
        if not self._encoder.service_is_ready():
            raise Refused("encoder_node does not answer; bring it up first")
        if self._latent_problem:
            raise Refused(self._latent_problem)
        if self._latent_stamp is None:
            raise Refused(
                "no image has arrived yet: see that the camera publishes camera/image_raw and that "
                "encoder_node is active, then set the goal again"
            )
        state = self._states.latest
        if state is None:
            raise Refused("no robot_state has arrived yet: see that controller_node is active")
        if state.fault:
            raise Refused(f"the controller reports a fault: {state.fault}; call reset_fault first")
        return steps

    def _start(self, loop: RecedingHorizon, subgoals: int) -> str:
        if self._goal is not None:
            self._finish(PlanningStatus.REPLACED, "replaced by a new goal")
        goal = Goal(f"goal-{uuid.uuid4().hex[:8]}", loop, subgoals, not_before=self.now())
        self._goal = goal
        if self._states.latest.moving:
            # The step of the goal before is let finish, and the first plan made from where it ends.
            goal.deadline = self.steady_now() + self.settings.step_duration
            self._show(PlanningStatus.MOVING, "waiting for the robot to finish its last step")
        else:
            self._show(PlanningStatus.WAITING, goal.message)
        self.get_logger().info(f"{goal.goal_id} accepted")
        return goal.goal_id

    def _finish(self, state: int, message: str) -> None:
        goal = self._goal
        self._show(state, message)
        self._goal = None
        self._worker.discard()
        self.get_logger().info(f"{goal.goal_id} {STATE_NAMES[state]}: {message}")

    def _on_cancel(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        # A goal whose images are still being encoded must not start after the cancel.
        self._latest_request += 1
        if self._goal is None:
            raise Refused("there is no goal to cancel")
        response.success, response.message = True, f"{self._goal.goal_id} cancelled"
        self._finish(PlanningStatus.CANCELLED, "cancelled; the robot holds at the end of its step")
        return response

    async def _on_stop(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        self._latest_request += 1
        if self._goal is not None:
            self._finish(PlanningStatus.STOPPED, "stopped; the robot was told to halt")
        if not self._halt.service_is_ready():
            raise Refused("planning has stopped, but controller_node does not answer: use the "
                          "robot's own stop")  # fmt: skip
        try:
            answer = await self.answer_of(self._halt, Trigger.Request(), HALT_TIMEOUT)
        except TimeoutError:
            raise Refused("planning has stopped, but controller_node did not confirm the halt: "
                          "use the robot's own stop") from None  # fmt: skip
        response.success, response.message = answer.success, answer.message
        return response

    # Observations ---------------------------------------------------------------------------

    def _tensor(self, message: Latent) -> torch.Tensor:
        encoder = self._model.encoder
        grid = encoder.rows, encoder.columns
        return latent_tensor(message, grid, encoder.channels, self._model.fingerprint)

    def _on_latent(self, message: Latent) -> None:
        try:
            latent = self._tensor(message)
        except MessageError as error:
            self._latent_problem = str(error)
            raise
        self._latent_problem = ""
        self._latent_stamp = seconds(message.header.stamp)
        goal = self._goal
        waiting = goal is not None and goal.state == PlanningStatus.WAITING
        if not waiting or self._latent_stamp <= goal.not_before:
            return
        age = self.now() - self._latent_stamp
        state = self._states.nearest(self._latent_stamp, self.settings.state_tolerance)
        if age > self.settings.max_observation_age:
            goal.message = f"the newest image is {age:.2f} s old: too old to plan from"
        elif state is None:
            goal.message = "no robot_state was measured at the time of the image"
        elif not robot_state(state).is_finite():
            goal.message = "the measured state of the robot is not finite"
        else:
            self._show(PlanningStatus.PLANNING, "planning")
            self._worker.offer(self._observation(goal, latent, state, message, age))

    def _observation(
        self, goal: Goal, latent: torch.Tensor, state: RobotState, message: Latent, age: float
    ) -> Observation:
        measured = robot_state(state)
        values = state_from_pose(
            measured.position, measured.quaternion_xyzw, measured.gripper_closedness
        )
        return Observation(
            goal,
            latent,
            torch.from_numpy(values).float(),
            self._latent_stamp,
            state.header.frame_id,
            age,
            message.encode_seconds,
        )

    def _on_robot_state(self, message: RobotState) -> None:
        self._states.add(seconds(message.header.stamp), message)
        goal = self._goal
        if goal is None:
            return
        if message.fault:
            self._finish(PlanningStatus.FAILED, f"the controller reports a fault: {message.fault}")
        elif goal.state == PlanningStatus.MOVING:
            if (message.goal_id, message.sequence) == self._sent and not message.moving:
                goal.setbacks = 0
                self._look_again(goal, seconds(message.header.stamp))
            elif (message.refused_goal_id, message.refused_sequence) == self._sent:
                self._set_back(goal, message.message)

    def _look_again(self, goal: Goal, not_before: float) -> None:
        """The step is over: end at the step limit, or plan from the next image."""
        goal.not_before = not_before
        if goal.step is not None and goal.step.finished:
            self._finish(PlanningStatus.STEP_LIMIT, f"all {goal.step.step} steps were made")
        else:
            self._show(PlanningStatus.WAITING, "waiting for the next image")

    def _set_back(self, goal: Goal, reason: str) -> None:
        """A command came to nothing: try again from a new image, but not for ever."""
        goal.setbacks += 1
        self.health.error(reason)
        self.get_logger().warning(f"{goal.goal_id}: {reason}")
        if goal.setbacks >= MOST_SETBACKS:
            self._finish(PlanningStatus.FAILED, reason)
        else:
            self._look_again(goal, self.now())

    # Plans ----------------------------------------------------------------------------------

    def _plan(self, observation: Observation) -> tuple[Observation, Step | Exception]:
        # In the worker's thread.
        try:
            return observation, observation.goal.loop.step(observation.latent, observation.state)
        except Exception as error:  # noqa: BLE001 - belongs to the goal, and ends it
            return observation, error

    def _plan_later(self, planned: tuple[Observation, Step | Exception]) -> None:
        self.post(self._on_planned, *planned)

    def _on_planned(self, observation: Observation, step: Step | Exception) -> None:
        goal = observation.goal
        if goal is not self._goal:
            return
        if isinstance(step, Exception):
            self.health.error(f"planning: {step}")
            self._finish(PlanningStatus.FAILED, f"planning failed: {step}")
            return
        goal.step = step
        goal.observation_age, goal.encode_seconds = observation.age, observation.encode_seconds
        self.health.beat()
        self.health.set("plan_s", f"{step.plan_seconds:.3f}")
        age = self.now() - observation.stamp
        if step.finished == "reached":
            self._finish(
                PlanningStatus.REACHED, f"no better step is foreseen after {step.step} steps"
            )
        elif age > self.settings.max_observation_age:
            self._set_back(
                goal,
                f"the image was {age:.2f} s old when its plan was done, and at most "
                f"{self.settings.max_observation_age:.2f} s are allowed: lower samples or "
                "iterations, or raise max_observation_age",
            )
        else:
            self._send(observation, step)

    def _send(self, observation: Observation, step: Step) -> None:
        goal = observation.goal
        position, quaternion, closedness = pose_from_state(step.target_state.double().numpy())
        self._sent = goal.goal_id, self._sent[1] + 1
        goal.command_latency = self.now() - observation.stamp
        self._commands.publish(
            Command(
                header=Header(stamp=stamp(observation.stamp), frame_id=observation.base_frame),
                goal_id=goal.goal_id,
                sequence=self._sent[1],
                pose=pose_message(position, quaternion),
                gripper_closedness=float(closedness),
                lifetime=duration(self.settings.command_lifetime),
            )
        )
        goal.deadline = self.steady_now() + self.settings.step_duration
        self._show(PlanningStatus.MOVING, f"step {step.step}")

    # Status ---------------------------------------------------------------------------------

    def _on_tick(self) -> None:
        if self._latent_stamp is not None:
            self.health.set("latent_age_s", f"{self.now() - self._latent_stamp:.2f}")
        goal = self._goal
        if goal is None:
            return
        if goal.state == PlanningStatus.MOVING and self.steady_now() > goal.deadline:
            self._on_late(goal)
        elif goal.state == PlanningStatus.WAITING:
            self._name_what_is_missing(goal)
        if self._goal is not None:
            self._publish(self._goal.status())

    def _on_late(self, goal: Goal) -> None:
        state = self._states.latest
        if (state.goal_id, state.sequence) == self._sent or goal.step is None:
            self._look_again(goal, self.now())
        else:
            self._set_back(
                goal,
                f"controller_node did not take command {self._sent[1]} within "
                f"{self.settings.step_duration} s; is it active?",
            )

    def _name_what_is_missing(self, goal: Goal) -> None:
        silence = self.now() - self._latent_stamp
        if self._latent_problem:
            goal.message = self._latent_problem
        elif silence > 1.0:
            goal.message = (
                f"no image for {silence:.1f} s: the robot holds; see camera and encoder_node"
            )
        if goal.message:
            self.health.warn(goal.message)

    def _show(self, state: int, message: str) -> None:
        self._goal.state, self._goal.message = state, message
        self._publish(self._goal.status())

    def _publish(self, status: PlanningStatus) -> None:
        status.header = Header(stamp=stamp(self.now()))
        self._status.publish(status)


def main() -> int:
    return run(PlannerNode, sys.argv)


if __name__ == "__main__":
    sys.exit(main())
