# SPDX-License-Identifier: Apache-2.0
"""Latents, robot states and goals in, commands out.

The node owns the goal: it takes it by service, feeds observations to the receding-horizon loop in
a worker thread, sends what comes out, waits until the robot has done it, and looks again.
"""

from __future__ import annotations

import sys
import traceback

import torch
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from vjepa2_ros.msg import Command, Latent, PlanningStatus, RobotState
from vjepa2_ros.nodes.planner_parameters import PLANNER_PARAMETERS
from vjepa2_ros.nodes.pursuit import TERMINAL, Observation, Pursuit
from vjepa2_ros.planning.receding_horizon import (
    RecedingHorizon,
    RecedingHorizonSettings,
    Step,
)
from vjepa2_ros.planning.settings import action_space, loop_settings, planner
from vjepa2_ros.ros.conversions import MessageError, seconds, stamp
from vjepa2_ros.ros.latents import latent_tensor
from vjepa2_ros.ros.mailbox import LatestWorker
from vjepa2_ros.ros.managed_node import ManagedNode, Refused
from vjepa2_ros.ros.model import MODEL_PARAMETERS, load_model
from vjepa2_ros.ros.parameters import Parameter
from vjepa2_ros.ros.qos import COMMAND, LATCHED, LATEST, STREAM
from vjepa2_ros.ros.runner import run
from vjepa2_ros.srv import EncodeImages, SetGoal

HALT_TIMEOUT = 2.0
"""Longest wait for the controller to confirm a halt [s]."""


class PlannerNode(ManagedNode):
    """Pursues one goal at a time; a new one replaces it."""

    NAME = "planner_node"
    PARAMETERS = (
        *MODEL_PARAMETERS,
        *PLANNER_PARAMETERS,
        Parameter("step_duration", 3.0,
                  "time given to the robot for one step before it is looked at again",
                  "s", 0.1, 60.0),
        Parameter("overlap", False,
                  "plan on while the robot moves; each new command supersedes the one under way"),
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
                  "rate of `status`, the sign of life that the controller waits for",
                  "Hz", 1.0, 50.0),
    )  # fmt: skip

    def configure(self) -> None:
        settings = self.settings
        self._planner = planner(vars(settings))
        action_space(vars(settings))  # a bad one must not wait for the first goal to be refused
        self._model = load_model(settings)
        self.health.set("model", f"{self._model.name} {self._model.fingerprint}")
        self._worker = LatestWorker(self._plan, self._plan_done, self.post_error, "planner")
        self._pursuit = Pursuit(
            settings, self.now, self.steady_now, self._worker.offer, self._send, self._show
        )
        self._latest_request = 0
        self._latent_stamp: float | None = None
        self._latent_problem = ""
        self._commands = self.advertise(Command, "command", COMMAND)
        self._statuses = self.advertise(PlanningStatus, "status", LATCHED)
        self.subscribe(Latent, "latent", self._on_latent, LATEST)
        self.subscribe(RobotState, "robot_state", self._on_robot_state, STREAM)
        self._encoder = self.use_service(EncodeImages, "encode_images")
        self._halt = self.use_service(Trigger, "halt")
        self.serve(SetGoal, "set_goal", self._on_set_goal)
        self.serve(Trigger, "cancel", self._on_cancel)
        self.serve(Trigger, "stop", self._on_stop)
        self.every(1.0 / settings.status_rate, self._on_tick)

    def activate(self) -> None:
        self._show(PlanningStatus(state=PlanningStatus.IDLE, message="no goal"))

    def deactivate(self) -> None:
        if hasattr(self, "_pursuit") and self._pursuit.goal is not None:
            self._pursuit.finish(PlanningStatus.CANCELLED, "the planner was deactivated")

    def cleanup(self) -> None:
        if hasattr(self, "_worker"):
            self._worker.close()
            del self._worker, self._model

    # Goals ----------------------------------------------------------------------------------

    async def _on_set_goal(
        self, request: SetGoal.Request, response: SetGoal.Response
    ) -> SetGoal.Response:
        settings = self._check_request(request)
        self._latest_request += 1
        ticket = self._latest_request
        try:
            answer = await self.answer_of(
                self._encoder,
                EncodeImages.Request(images=request.images),
                self.settings.encode_timeout,
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
            loop = RecedingHorizon(self._planner, self._model, goals, settings)
        except ValueError as error:
            raise Refused(str(error)) from error
        response.accepted, response.goal_id = True, self._pursuit.start(loop)
        steps = settings.steps_per_subgoal
        response.message = f"{len(steps)} sub-goal(s), at most {sum(steps)} steps; see `status`"
        return response

    def _check_request(self, request: SetGoal.Request) -> RecedingHorizonSettings:
        """Refuse what cannot work; returns the settings of the loop."""
        count = len(request.images)
        if not count:
            raise Refused("no goal image was sent; send one, or one for each sub-goal")
        steps = list(request.steps) or [self.settings.steps_per_subgoal] * count
        if len(steps) != count or min(steps) < 1:
            raise Refused(
                f"steps {steps} do not fit {count} image(s): give a number from 1 for each, or none"
            )
        try:
            settings = loop_settings(vars(self.settings), steps, request.gripper)
        except ValueError as error:
            raise Refused(str(error)) from error
        if not self._encoder.service_is_ready():
            raise Refused("encoder_node does not answer; bring it up first")
        if self._latent_problem:
            raise Refused(self._latent_problem)
        if self._latent_stamp is None:
            raise Refused(
                "no image has arrived yet: see that the camera publishes camera/image_raw and that "
                "encoder_node is active, then set the goal again"
            )
        state = self._pursuit.robot
        if state is None:
            raise Refused("no robot_state has arrived yet: see that controller_node is active")
        if state.fault:
            raise Refused(f"the controller reports a fault: {state.fault}; call reset_fault first")
        return settings

    def _on_cancel(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        # A goal whose images are still being encoded must not start after the cancel.
        self._latest_request += 1
        goal = self._pursuit.goal
        if goal is None:
            raise Refused("there is no goal to cancel")
        self._pursuit.finish(
            PlanningStatus.CANCELLED, "cancelled; the robot holds at the end of its step"
        )
        response.success, response.message = True, f"{goal.goal_id} cancelled"
        return response

    async def _on_stop(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        self._latest_request += 1
        if self._pursuit.goal is not None:
            self._pursuit.finish(PlanningStatus.STOPPED, "stopped; the robot was told to halt")
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
            self._latent_problem = self._pursuit.trouble = str(error)
            raise
        self._latent_problem, self._latent_stamp = "", seconds(message.header.stamp)
        self._pursuit.observe(latent, self._latent_stamp, message.encode_seconds)

    def _on_robot_state(self, message: RobotState) -> None:
        self._pursuit.robot_moved(message)

    def _plan(self, observation: Observation) -> tuple[Observation, Step | Exception]:
        # In the worker's thread.
        try:
            loop = observation.goal.loop
            return observation, loop.step(observation.latent, observation.state, observation.ahead)
        except Exception as error:  # noqa: BLE001 - belongs to the goal, and ends it
            return observation, error

    def _plan_done(self, outcome: tuple[Observation, Step | Exception]) -> None:
        self.post(self._on_planned, *outcome)

    def _on_planned(self, observation: Observation, step: Step | Exception) -> None:
        if isinstance(step, Step):
            self.health.beat()
            self.health.set("plan_s", f"{step.plan_seconds:.3f}")
        else:
            self.get_logger().error("".join(traceback.format_exception(step)))
        self._pursuit.planned(observation, step)

    # What goes out --------------------------------------------------------------------------

    def _on_tick(self) -> None:
        self._pursuit.tick()
        if self._pursuit.goal is None:
            # The controller wants a sign of life also after the end: the last step may be going on.
            self._publish(self._last_status)
        if self._latent_stamp is not None:
            self.health.set("latent_age_s", f"{self.now() - self._latent_stamp:.2f}")
        if self._pursuit.goal is not None and self._pursuit.trouble:
            self.health.warn(self._pursuit.trouble)

    def _send(self, command: Command) -> None:
        self._commands.publish(command)

    def _show(self, status: PlanningStatus) -> None:
        self._last_status = status
        self._publish(status)
        if status.state == PlanningStatus.FAILED:
            self.get_logger().error(f"{status.goal_id} failed: {status.message}")
            self.health.error(status.message)
        elif status.state in TERMINAL:
            self.get_logger().info(f"{status.goal_id} is over: {status.message}")

    def _publish(self, status: PlanningStatus) -> None:
        status.header = Header(stamp=stamp(self.now()))
        self._statuses.publish(status)


def main() -> int:
    return run(PlannerNode, sys.argv)


if __name__ == "__main__":
    sys.exit(main())
