# SPDX-License-Identifier: Apache-2.0
"""Commands in, a moving robot and its measured state out.

Everything that decides about motion is in robot/controller.py and robot/safety.py; this node owns
the topics, the rate and the choice of the robot.
"""

from __future__ import annotations

import sys

from std_srvs.srv import Trigger

from vjepa2_ros.msg import Command, PlanningStatus, RobotState
from vjepa2_ros.robot.controller import MotionController
from vjepa2_ros.ros.conversions import motion_command, robot_state_message
from vjepa2_ros.ros.managed_node import ManagedNode
from vjepa2_ros.ros.qos import COMMAND, LATCHED, STREAM
from vjepa2_ros.ros.runner import run
from vjepa2_ros.ros.simulated_robot import SimulatedRobot
from vjepa2_ros.settings.controller import ControllerNodeSettings

BACKENDS = {"simulator": SimulatedRobot}


class ControllerNode(ManagedNode):
    """Drives one robot through the gate, and halts it whenever something falls silent."""

    NAME = "controller_node"
    SETTINGS = ControllerNodeSettings

    def configure(self) -> None:
        settings = self.settings
        self._frame = settings.limits.cell.frame.base_frame
        self._robot = BACKENDS[settings.robot](self, self._frame)
        self._states = self.advertise(RobotState, "robot_state", STREAM)
        self.subscribe(Command, "command", self._on_command, COMMAND)
        self.subscribe(PlanningStatus, "status", self._on_status, LATCHED)
        self.serve(Trigger, "halt", self._on_halt)
        self.serve(Trigger, "reset_fault", self._on_reset_fault)
        self.every(1.0 / settings.state_rate, self._on_tick)

    def activate(self) -> None:
        # A fault does not outlive a deactivation: bringing the node up again is a reset.
        self._controller = MotionController(
            self._robot, self.settings.limits, self.settings.planner_timeout
        )

    def deactivate(self) -> None:
        if hasattr(self, "_controller"):
            self._controller.halt("the controller was deactivated", self.now())

    def cleanup(self) -> None:
        if hasattr(self, "_robot"):
            self._robot.close()
            del self._robot

    def _on_command(self, message: Command) -> None:
        verdict = self._controller.command(motion_command(message), self.now(), self.steady_now())
        if not verdict.accepted:
            self.get_logger().warning(self._controller.message)

    def _on_status(self, message: PlanningStatus) -> None:
        self._controller.planner_heard(self.steady_now())

    def _on_halt(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        controller = self._controller
        response.success = controller.halt("the `halt` service was called", self.now())
        response.message = controller.message
        if not response.success:
            response.message = f"{controller.fault}; use the robot's own stop"
        return response

    def _on_reset_fault(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        fault = self._controller.fault
        self._controller.reset_fault(self.now())
        response.success, response.message = True, f"was: {fault}" if fault else "no fault"
        return response

    def _on_tick(self) -> None:
        controller = self._controller
        before = controller.fault
        state = controller.tick(self.now(), self.steady_now())
        if controller.fault and not before:
            self.get_logger().error(f"fault: {controller.fault}")
        self._report_health(controller, state is not None)
        if state is None:
            return
        self._states.publish(
            robot_state_message(
                state,
                self._frame,
                moving=controller.moving,
                goal_id=controller.accepted[0],
                sequence=controller.accepted[1],
                refused_goal_id=controller.refused[0],
                refused_sequence=controller.refused[1],
                halts=controller.halts,
                message=controller.message,
                fault=controller.fault,
            )
        )

    def _report_health(self, controller: MotionController, has_state: bool) -> None:
        self.health.set("message", controller.message)
        if controller.fault:
            self.health.error(
                f"fault: {controller.fault}; look after the robot, then call reset_fault"
            )
        elif has_state:
            self.health.beat()
        else:
            self.health.warn(controller.message)


def main() -> int:
    return run(ControllerNode, sys.argv)


if __name__ == "__main__":
    sys.exit(main())
