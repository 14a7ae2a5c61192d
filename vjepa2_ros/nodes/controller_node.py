# SPDX-License-Identifier: Apache-2.0
"""Commands in; a moving robot and its measured state out.

All decisions about motion are in robot/controller.py and robot/safety.py; this node owns the
topics, the rate and the choice of the robot.
"""

from __future__ import annotations

import json
import sys
from functools import partial

from geometry_msgs.msg import WrenchStamped
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from vjepa2_ros.msg import Command, PlanningStatus, RobotState
from vjepa2_ros.robot.controller import MotionController
from vjepa2_ros.robot.driver import Robot, RobotError
from vjepa2_ros.robot.driver import RobotState as MeasuredState
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.ros.conversions import (
    controller_state_message,
    joint_state_message,
    motion_command,
    wrench_message,
)
from vjepa2_ros.ros.drivers import DriverContext, create_robot
from vjepa2_ros.ros.managed_node import ManagedNode
from vjepa2_ros.ros.qos import COMMAND, LATCHED, STREAM
from vjepa2_ros.ros.runner import run
from vjepa2_ros.ros.senders import SenderBinding
from vjepa2_ros.ros.simulator_link import SimulatorLink
from vjepa2_ros.settings.controller import ControllerNodeSettings
from vjepa2_ros.settings.stack import MANAGER, PLANNER
from vjepa2_ros.text import printable

LOG_PERIOD = 10.0
"""Shortest time between two lines in the log about the manager's silence [s]."""


class ControllerNode(ManagedNode):
    """Drives one robot through the gate, and halts it when the planner or the robot is silent."""

    NAME = "controller_node"
    SETTINGS = ControllerNodeSettings

    _robot: Robot | None = None
    _controller: MotionController | None = None

    def configure(self) -> None:
        settings = self.settings
        self._frame = settings.limits.cell.frame.base_frame
        self._reported_fault = ""
        self._planner = SenderBinding(PLANNER, self.manager)
        options = json.loads(settings.robot_options)
        link = partial(SimulatorLink, self, self._frame)
        context = DriverContext(self.now, link, settings.franka, options)
        self._robot = create_robot(settings.robot, context)
        self._description = self._robot.describe()
        self._states = self.advertise(RobotState, "robot_state", STREAM)
        self._joints = self.advertise(JointState, "joint_states", STREAM)
        self._wrenches = self.advertise(WrenchStamped, "external_wrench", STREAM)
        self.subscribe(Command, "command", self._on_command, COMMAND)
        self.subscribe(PlanningStatus, "status", self._on_status, LATCHED)
        self.serve(Trigger, "halt", self._on_halt, "use the robot's own stop")
        self.serve(Trigger, "reset_fault", self._on_reset_fault)
        self.every(1.0 / settings.state_rate, self._on_tick)

    def activate(self) -> None:
        assert self._robot is not None
        # A fault ends with a deactivation: an activation is a reset.
        self._controller = MotionController(
            self._robot, self.settings.limits, self.settings.planner_timeout
        )
        self._planner.release()
        self._manager_is_silent = False

    def settings_changed(self) -> None:
        if self._controller is not None:
            self._controller.limits = self.settings.limits
            self._controller.planner_timeout = self.settings.planner_timeout

    def deactivate(self) -> None:
        controller = self._controller
        # Before the first state every command is refused: then nothing was sent to the robot.
        if controller is None or controller.state is None:
            return
        if not controller.halt(Reason.DEACTIVATED, "the controller was deactivated", self.now()):
            raise RobotError(controller.message)
        # So that a planner ends its goal, instead of going on with it after an activation.
        self._publish(controller, controller.state)

    def cleanup(self) -> None:
        robot, self._robot, self._controller = self._robot, None, None
        if robot is not None:
            robot.close()

    def _on_command(self, message: Command) -> None:
        if not self._is_of_the_planner("command", message.sender):
            return
        if self._manager_is_silent:
            # Ends the goal that it was planned for.
            self._halt_without_manager()
            return
        verdict = self._controller.command(motion_command(message), self.now(), self.steady_now())
        if not verdict.accepted:
            self.log_throttled(self._controller.message, f"refused: {verdict.reason.name}")

    def _on_status(self, message: PlanningStatus) -> None:
        if self._is_of_the_planner("status", message.sender):
            self._controller.planner_heard(self.steady_now())

    def _is_of_the_planner(self, topic: str, sender: str) -> bool:
        """Whether a message is of the planner of this stack; another one has no effect at all."""
        if self._planner.accepts(sender):
            return True
        self.log_throttled(
            f"{Reason.FOREIGN_SENDER.name}: ignored a message on `{topic}` from {sender!r}, which "
            f"is not the planner {self._planner.sender!r} of this stack",
            f"foreign {topic}",
        )
        return False

    def _watch_manager(self) -> None:
        """Halt when the lifecycle manager falls silent: nobody would bring the stack down."""
        silence = self.manager.silence or 0.0
        was_silent = self._manager_is_silent
        self._manager_is_silent = silence > self.settings.manager_timeout
        if self._manager_is_silent and not was_silent:
            self._halt_without_manager()

    def _halt_without_manager(self) -> None:
        text = (
            f"{MANAGER} has been silent for {self.manager.silence or 0.0:.1f} s; no command is "
            "taken until it is heard again"
        )
        self.get_logger().error(text, throttle_duration_sec=LOG_PERIOD)
        self._controller.halt(Reason.MANAGER_SILENT, text, self.now())

    def _on_halt(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._controller.halt(
            Reason.HALT_REQUESTED, "the `halt` service was called", self.now()
        )
        self._publish_last()
        response.message = self._controller.message
        return response

    def _on_reset_fault(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        fault = self._controller.fault
        response.success = self._controller.reset_fault(self.now())
        self._publish_last()
        if response.success:
            response.message = f"was: {fault}" if fault else "no fault"
        else:
            response.message = self._controller.message
        return response

    def _on_tick(self) -> None:
        controller = self._controller
        assert controller is not None
        self._watch_manager()
        state = controller.tick(self.now(), self.steady_now())
        if controller.fault and controller.fault != self._reported_fault:
            self.get_logger().error(printable(f"fault: {controller.fault}"))
        self._reported_fault = controller.fault
        self._report_health(controller, state is not None)
        if state is not None:
            self._publish(controller, state)

    def _publish_last(self) -> None:
        """Publish what a request has changed at once: who gets the answer may act on it."""
        if self._controller.state is not None:
            self._publish(self._controller, self._controller.state)

    def _publish(self, controller: MotionController, state: MeasuredState) -> None:
        message = controller_state_message(controller, state, self._frame)
        message.sender = self.health.instance
        self._states.publish(message)
        if state.joint_positions is not None:
            self._joints.publish(joint_state_message(state, self._description))
        if state.wrench is not None:
            self._wrenches.publish(wrench_message(state, self._frame))

    def _report_health(self, controller: MotionController, has_state: bool) -> None:
        self.health.set("message", controller.message)
        self.health.set("foreign_messages", self._planner.refused)
        if controller.fault:
            self.health.error(f"fault: {controller.fault}; check the robot, then call reset_fault")
        elif has_state and controller.reason is not Reason.STATE_STALE:
            self.health.beat()
        else:
            self.health.warn(controller.message)


def main() -> int:
    return run(ControllerNode, sys.argv)


if __name__ == "__main__":
    sys.exit(main())
