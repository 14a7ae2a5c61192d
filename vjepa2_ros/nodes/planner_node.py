# SPDX-License-Identifier: Apache-2.0
"""Latents, robot states and goal images in, commands out.

The node converts messages, asks the encoder for the goal's latents and plans in a worker thread;
`execution/goal_execution.py` decides everything else.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from vjepa2_ros.execution.goal_execution import GoalExecution
from vjepa2_ros.execution.goal_folder import GoalPathError, read_beneath
from vjepa2_ros.execution.goal_request import refusal_of
from vjepa2_ros.execution.goal_status import GoalState, GoalStatus, Note
from vjepa2_ros.execution.observation import EncodedImage, Observation
from vjepa2_ros.msg import Command, Goal, Latent, Plan, PlanningStatus, RobotState
from vjepa2_ros.planning.planner import Planner
from vjepa2_ros.planning.planners import make_planner
from vjepa2_ros.planning.receding_horizon import check_switch, make_loop
from vjepa2_ros.planning.step import Step
from vjepa2_ros.recording.messages import tool_states
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.robot.safety import MotionCommand
from vjepa2_ros.ros.awaiting_node import Refused
from vjepa2_ros.ros.conversions import MessageError, compressed_image, seconds, stamp
from vjepa2_ros.ros.goal_messages import (
    command_message,
    goal_message,
    robot_report,
    status_message,
)
from vjepa2_ros.ros.landscape import EnergyMapper
from vjepa2_ros.ros.latents import latent_tensor
from vjepa2_ros.ros.mailbox import LatestWorker
from vjepa2_ros.ros.managed_node import ManagedNode
from vjepa2_ros.ros.plan_messages import plan_message
from vjepa2_ros.ros.qos import COMMAND, LATCHED, LATCHED_SERIES, LATEST, STREAM
from vjepa2_ros.ros.runner import run
from vjepa2_ros.ros.senders import SenderBinding
from vjepa2_ros.settings.planning import PlannerNodeSettings
from vjepa2_ros.settings.stack import CONTROLLER
from vjepa2_ros.srv import EncodeImages, EnergyLandscape, SetGoal
from vjepa2_ros.text import printable
from vjepa2_ros.world_model.checkpoint import open_world_model
from vjepa2_ros.world_model.success import QUESTIONS
from vjepa2_ros.world_model.world_model import WorldModel

HALT_TIMEOUT = 2.0
"""Longest wait for the controller to confirm a halt [s]."""
DISCOVERY_TIMEOUT = 2.0
"""Longest wait for the encoder to be discovered, once a goal is requested [s]."""
REPORT_TIMEOUT = 0.5
"""Longest wait for the controller's next report, once a goal is requested [s]."""
LOG_PERIOD = 1.0
"""Shortest time between two lines in the log about ends of goals [s]."""


class PlannerNode(ManagedNode):
    """Executes one goal at a time; a new one replaces it."""

    NAME = "planner_node"
    SETTINGS = PlannerNodeSettings

    _planner: Planner | None = None
    _model: WorldModel | None = None
    _worker: LatestWorker | None = None
    _execution: GoalExecution | None = None
    # Never reset: a request may be waiting for the encoder while the node goes down and up again.
    _requests = 0

    def configure(self) -> None:
        settings = self.settings
        self._planner = make_planner(settings.search)
        self._model = open_world_model(settings.model)
        # That of the published model has a billion parameters, and encoder_node has them already.
        self._model.release_encoder()
        self.health.set("model", f"{self._model.name} {self._model.fingerprint}")
        self._worker = LatestWorker(self._plan, self._plan_done, self.post_error, "planner")
        # Not in the worker: a folder of a network that hangs must not keep plans from being made.
        self._reader = ThreadPoolExecutor(1, "goal images")
        self._execution = GoalExecution(
            settings.execution,
            settings.action.max_translation,
            now=self.now,
            steady_now=self.steady_now,
            plan=self._offer,
            send=self._send,
            show=self._show,
        )
        self._controller = SenderBinding(CONTROLLER, self.manager)
        self._latent_stamp: float | None = None
        self._landscape = EnergyMapper(self, self._worker)
        self._camera_frame = ""
        self._status = GoalStatus()
        self._images: Sequence[CompressedImage] = ()
        self._subgoal_shown = 0
        self._commands = self.advertise(Command, "command", COMMAND)
        self._statuses = self.advertise(PlanningStatus, "status", LATCHED)
        self._goals = self.advertise(Goal, "goal", LATCHED)
        self._plans = self.advertise(Plan, "plan", LATEST)
        self._goal_images = self.advertise(CompressedImage, "goal_image/compressed", LATCHED_SERIES)
        self.subscribe(Latent, "latent", self._on_latent, LATEST)
        self.subscribe(RobotState, "robot_state", self._on_robot_state, STREAM)
        self._encoder = self.use_service(EncodeImages, "encode_images")
        self._halt = self.use_service(Trigger, "halt")
        self.serve(SetGoal, "set_goal", self._on_set_goal)
        self.serve(Trigger, "cancel", self._on_cancel)
        self.serve(Trigger, "stop", self._on_stop, "call `halt`, or use the robot's own stop")
        self.serve(EnergyLandscape, "energy_landscape", self._landscape.answer)
        self.every(1.0 / settings.status_rate, self._on_tick)

    def activate(self) -> None:
        self._controller.release()
        self._goals.publish(Goal(header=self._header()))
        self._show(GoalStatus())

    def settings_changed(self) -> None:
        # A goal in execution keeps its settings.
        self._planner = make_planner(self.settings.search)
        self._execution.settings = self.settings.execution
        self._execution.max_translation = self.settings.action.max_translation

    def deactivate(self) -> None:
        # A goal whose images are still being encoded must not start after a new activation.
        self._requests += 1
        if self._execution is not None and self._execution.goal is not None:
            self._execution.finish(
                GoalState.CANCELLED, Reason.PLANNER_DEACTIVATED, "the planner was deactivated"
            )

    def cleanup(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._reader.shutdown(wait=False, cancel_futures=True)
        self._worker = self._execution = self._model = self._planner = None

    # Goals ----------------------------------------------------------------------------------

    async def _on_set_goal(
        self, request: SetGoal.Request, response: SetGoal.Response
    ) -> SetGoal.Response:
        execution = self._execution
        ticket = execution.ticket()
        if execution.awaits_report(ticket):
            # The fault may have been reset, with the report of that still on its way.
            self._requests += 1
            number = self._requests
            await self.comes_true(lambda: not execution.awaits_report(ticket), REPORT_TIMEOUT)
            self._check_latest(number)
        if request.image_paths:
            # A cancel that comes while they are read counts, too.
            self._requests += 1
            number = self._requests
            request.images = await self._images_of(request)
            self._check_latest(number)
        states = self._check_request(request)
        self._requests += 1
        number = self._requests
        latents = await self._encode(request.images)
        self._check_latest(number)
        if self._execution.halted_since(ticket):
            raise Refused(
                "the controller halted while the goal was being encoded: set it again",
                Reason.CONTROLLER_HALTED,
            )
        self._refuse(self._execution.not_ready())
        try:
            goals = torch.stack([self._tensor(latent) for latent in latents])
        except MessageError as error:
            raise Refused(str(error), Reason.LATENT_INVALID) from error
        try:
            loop = make_loop(
                self.settings,
                self._planner,
                self._model,
                goals,
                request.steps,
                request.gripper,
                states,
            )
        except ValueError as error:
            raise Refused(str(error), Reason.INVALID) from error
        goal_id = self._execution.start(loop, ticket)
        self._show_answers({})
        self._landscape.forget()
        self._show_goal(
            goal_message(
                goal_id,
                self._header(),
                request.images,
                latents,
                loop.steps,
                loop.gripper,
                request.states,
            )
        )
        response.accepted, response.goal_id = True, goal_id
        response.reason = int(Reason.ACCEPTED)
        response.message = (
            f"{len(loop.steps)} sub-goal(s), at most {sum(loop.steps)} steps; see `status`"
        )
        return response

    async def _images_of(self, request: SetGoal.Request) -> Sequence[CompressedImage]:
        """The images that a request names by their paths."""
        if request.images:
            raise Refused("give images or image_paths, not both", Reason.INVALID)
        self._check_counts(len(request.image_paths), request)
        read = partial(read_beneath, self.settings.goal_folder, request.image_paths)
        try:
            contents = await self.result_of(self._reader.submit(read))
        except GoalPathError as error:
            raise Refused(str(error), Reason.IMAGE_INVALID) from error
        return [compressed_image(data) for data in contents]

    def _check_counts(self, images: int, request: SetGoal.Request) -> None:
        loop, states = self.settings.loop, len(request.states)
        self._refuse(refusal_of(images, request.steps, request.gripper, loop, states))

    def _check_latest(self, number: int) -> None:
        """Raise Refused if a request came after the one of this number."""
        if not self.is_active:
            raise Refused("the planner was deactivated in the meantime", Reason.NODE_INACTIVE)
        if number != self._requests:
            raise Refused(
                "another goal, a cancel or a stop came in the meantime", Reason.SUPERSEDED
            )

    def _check_request(self, request: SetGoal.Request) -> torch.Tensor | None:
        """Raise Refused if the request cannot be served, before anything is encoded.

        Returns:
            States of the robot [G, 7] float32 that came with the images; None: none.
        """
        self._check_counts(len(request.images), request)
        try:
            states = tool_states(request.states)
            check_switch(self.settings.loop, self._model)
        except ValueError as error:
            raise Refused(str(error), Reason.INVALID) from error
        problem = self._execution.not_ready()
        if problem is not None and problem.reason == Reason.NO_ROBOT_STATE:
            if self.count_publishers("robot_state") == 0:
                raise Refused(
                    "there is no publisher of robot_state: bring controller_node up first",
                    Reason.NODE_INACTIVE,
                )
            problem = Note(
                Reason.NO_ROBOT_STATE,
                "controller_node is up, but its robot has not given a state: check that the robot "
                "is on and connected (in simulation: that simulator_node is active); what is wrong "
                "is in the controller's diagnostics",
            )
        self._refuse(problem)
        return None if states is None else torch.from_numpy(states).float()

    @staticmethod
    def _refuse(note: Note | None) -> None:
        if note is not None:
            raise Refused(note.message, note.reason)

    async def _encode(self, images: Sequence[CompressedImage]) -> Sequence[Latent]:
        if not await self.is_offered(self._encoder, DISCOVERY_TIMEOUT):
            raise Refused(
                "encoder_node does not answer; bring it up first", Reason.ENCODER_UNAVAILABLE
            )
        timeout = self.settings.encode_timeout
        try:
            answer = await self.answer_of(
                self._encoder, EncodeImages.Request(images=images), timeout
            )
        except TimeoutError:
            raise Refused(
                f"encoder_node gave no answer within {timeout} s; is it alive?",
                Reason.ENCODER_TIMEOUT,
            ) from None
        if not answer.success:
            raise Refused(answer.message, Reason.of(answer.reason))
        if len(answer.latents) != len(images):
            raise Refused(
                f"encoder_node gave {len(answer.latents)} latents for {len(images)} images",
                Reason.LATENT_INVALID,
            )
        return answer.latents

    def _on_cancel(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        # A goal whose images are still being encoded must not start after the cancel.
        self._requests += 1
        goal = self._execution.goal
        if goal is None:
            raise Refused("there is no goal to cancel", Reason.NO_GOAL)
        self._execution.finish(
            GoalState.CANCELLED,
            Reason.CANCEL_REQUESTED,
            "cancelled; the robot holds at the end of its step",
        )
        response.success, response.message = True, f"{goal.goal_id} cancelled"
        return response

    async def _on_stop(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        self._requests += 1
        goal = self._execution.goal
        if goal is not None:
            self._execution.finish(
                GoalState.STOPPED, Reason.STOP_REQUESTED, "stopped; the robot was told to halt"
            )
        if not self._halt.service_is_ready():
            raise Refused("planning has stopped, but controller_node does not answer: use the "
                          "robot's own stop")  # fmt: skip
        try:
            answer = await self.answer_of(self._halt, Trigger.Request(), HALT_TIMEOUT)
        except TimeoutError:
            raise Refused("planning has stopped, but controller_node did not confirm the halt: "
                          "use the robot's own stop") from None  # fmt: skip
        response.success = answer.success
        stopped = f"{goal.goal_id} stopped" if goal is not None else "there was no goal"
        response.message = f"{stopped}; controller_node: {answer.message}"
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
            self._execution.refuse_latent(str(error))
            raise
        self._latent_stamp = seconds(message.header.stamp)
        self._camera_frame = message.header.frame_id
        self._execution.observe(EncodedImage(latent, self._latent_stamp, message.encode_seconds))

    def _on_robot_state(self, message: RobotState) -> None:
        if self._controller.accepts(message.sender):
            self._execution.robot_moved(robot_report(message))
        else:
            self.log_throttled(
                f"{Reason.FOREIGN_SENDER.name}: ignored a robot_state from {message.sender!r}, "
                f"which is not the controller {self._controller.sender!r} of this stack",
                "foreign robot_state",
            )

    def _offer(self, observation: Observation) -> None:
        observation.loop.keeps_candidates = self._plans.get_subscription_count() > 0
        self._worker.offer(observation)

    @staticmethod
    def _plan(observation: Observation) -> tuple[Observation, Step | Exception]:
        # In the worker's thread.
        try:
            return observation, observation.plan()
        except Exception as error:  # noqa: BLE001 - belongs to the goal, and ends it
            return observation, error

    def _plan_done(self, outcome: tuple[Observation, Step | Exception]) -> None:
        self.post(self._on_planned, *outcome)

    def _on_planned(self, observation: Observation, outcome: Step | Exception) -> None:
        if isinstance(outcome, Exception):
            self.get_logger().error(
                "".join(traceback.format_exception(outcome)), throttle_duration_sec=LOG_PERIOD
            )
        else:
            self.health.beat()
            self.health.set("plan_s", f"{outcome.plan_seconds:.3f}")
            self.health.set("surprise", f"{outcome.surprise:.4f}")
            self._show_answers(outcome.answers)
        self._execution.planned(observation, outcome)
        if isinstance(outcome, Step):
            self._landscape.planned(observation, outcome)
        if self._status.reason is Reason.SURPRISED:
            # The goal is over; with `overlap` the robot is still under way.
            self.executor.create_task(self._halt_after_surprise)
        if isinstance(outcome, Step) and (message := plan_message(observation, outcome)):
            self._plans.publish(message)

    def _show_answers(self, answers: Mapping[str, float]) -> None:
        """Report what the success probe says of the present goal, or nothing."""
        for question in QUESTIONS:
            if question in answers:
                self.health.set(question, f"{answers[question]:.2f}")
            else:
                self.health.unset(question)

    async def _halt_after_surprise(self) -> None:
        confirmed = False
        try:
            if await self.is_offered(self._halt, HALT_TIMEOUT):
                answer = await self.answer_of(self._halt, Trigger.Request(), HALT_TIMEOUT)
                confirmed = answer.success
        except (TimeoutError, Refused):
            pass
        if not confirmed:
            text = "the controller did not confirm the halt after a surprise: use the robot's stop"
            self.get_logger().error(text)
            self.health.error(text)

    # Outputs --------------------------------------------------------------------------------

    def _on_tick(self) -> None:
        execution = self._execution
        execution.tick()
        if execution.goal is None:
            # The controller needs a heartbeat also after the end: the last step may be going on.
            self._publish_status()
        if self._latent_stamp is not None:
            self.health.set("latent_age_s", f"{self.now() - self._latent_stamp:.2f}")
        self.health.set("foreign_messages", self._controller.refused)
        if execution.goal is not None and execution.hindrance is not None:
            self.health.warn(execution.hindrance.message)

    def _send(self, command: MotionCommand, reason: Reason) -> None:
        self._commands.publish(command_message(command, reason, self.health.instance))

    def _show(self, status: GoalStatus) -> None:
        self._status = status
        self._publish_status()
        if self._images and status.subgoal != self._subgoal_shown:
            self._show_goal_image(status.subgoal)
        if not status.state.is_over:
            return
        self._images = ()
        self._landscape.forget()
        if status.state == GoalState.FAILED:
            self.get_logger().error(
                printable(f"{status.goal_id} failed: {status.message}"),
                throttle_duration_sec=LOG_PERIOD,
            )
            self.health.error(status.message)
        else:
            self.get_logger().info(
                printable(f"{status.goal_id} is over: {status.message}"),
                throttle_duration_sec=LOG_PERIOD,
            )

    def _publish_status(self) -> None:
        self._statuses.publish(status_message(self._status, self.now(), self.health.instance))

    def _show_goal(self, goal: Goal) -> None:
        self._goals.publish(goal)
        self._images = goal.images
        self._show_goal_image(0)

    def _show_goal_image(self, subgoal: int) -> None:
        self._subgoal_shown = subgoal
        image = self._images[subgoal]
        self._goal_images.publish(
            CompressedImage(header=self._header(), format=image.format, data=image.data)
        )

    def _header(self) -> Header:
        return Header(stamp=stamp(self.now()), frame_id=self._camera_frame)


def main() -> int:
    return run(PlannerNode, sys.argv)


if __name__ == "__main__":
    sys.exit(main())
