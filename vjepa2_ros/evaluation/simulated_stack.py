# SPDX-License-Identifier: Apache-2.0
"""The loop of the nodes in one thread: the same goal execution, gate and motion controller over the
simulated arm, in simulated time.

Encoding and planning take no simulated time, and an image is rendered and encoded only when it will
be planned from.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from vjepa2_ros.execution.goal_execution import GoalExecution
from vjepa2_ros.execution.goal_status import GoalStatus
from vjepa2_ros.execution.observation import EncodedImage, Observation
from vjepa2_ros.execution.robot_report import RobotReport
from vjepa2_ros.planning.receding_horizon import RecedingHorizon
from vjepa2_ros.planning.step import Step
from vjepa2_ros.robot.controller import MotionController
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.robot.safety import MotionCommand, Verdict
from vjepa2_ros.settings.encoder import EncoderNodeSettings
from vjepa2_ros.settings.stack import StackSettings
from vjepa2_ros.simulation.robot import SimulatedArm
from vjepa2_ros.simulation.schedule import falls_on
from vjepa2_ros.simulation.simulator import Simulator
from vjepa2_ros.world_model.world_model import WorldModel


def encode_as_sent(
    model: WorldModel, image: np.ndarray, settings: EncoderNodeSettings
) -> torch.Tensor:
    """Latent [N, D] float32 of an image uint8 RGB [H, W, 3], as it arrives at the planner node."""
    latent = model.encode(image)
    return latent.half().float() if settings.half_precision else latent


@dataclass(frozen=True)
class ExecutedStep:
    """One planned step.

    Attributes:
        image: what it was planned from, uint8 RGB [size, size, 3].
        position: of the tool centre point at that time, [3] in metres, base frame.
        seconds: time of encoding, planning and gate [s].
        step: the plan; None where planning raised an error.
        verdict: of the gate; None where no command was sent.
    """

    image: np.ndarray
    position: np.ndarray
    seconds: float
    step: Step | None
    verdict: Verdict | None


class SimulatedStack:
    """Executes one goal after the other in a simulated cell.

    Args:
        simulator: the cell; it goes on from where it stands.
        settings: of the nodes.
    """

    def __init__(self, simulator: Simulator, settings: StackSettings) -> None:
        limits = settings.controller.limits
        self._simulator = simulator
        self._settings = settings
        self._frame = limits.cell.frame.base_frame
        arm = SimulatedArm(simulator, self._now)
        self._controller = MotionController(arm, limits, settings.controller.planner_timeout)
        self._execution = GoalExecution(
            settings.planner.execution,
            settings.planner.action.max_translation,
            now=self._now,
            steady_now=self._now,
            plan=self._on_plan,
            send=self._on_command,
            show=self._on_status,
        )
        self._observation: Observation | None = None
        self._verdict: Verdict | None = None
        self._status = GoalStatus()

    def execute(
        self, loop: RecedingHorizon, observe: Callable[[], None] = lambda: None
    ) -> tuple[list[ExecutedStep], GoalStatus]:
        """Execute a goal to its end.

        Args:
            loop: made for the goal.
            observe: called after each control period.

        Returns:
            Every step that was planned, and the last status.
        """
        execution, simulator = self._execution, self._simulator
        period = simulator.config.control_period
        share = self._settings.simulator.image_rate * period
        steps: list[ExecutedStep] = []
        self._run_controller()
        execution.start(loop, execution.ticket())
        number = 0
        while execution.goal is not None:
            simulator.advance(period)
            observe()
            self._run_controller()
            if falls_on(number, share) and execution.wants_image(simulator.time):
                image = simulator.render(self._settings.simulator.image_size)
                steps += self._look(loop, image)
            execution.tick()
            number += 1
        return steps, self._status

    def _run_controller(self) -> None:
        controller, now = self._controller, self._now()
        controller.planner_heard(now)
        state = controller.tick(now, now)
        self._execution.robot_moved(
            RobotReport(
                state=state,
                frame=self._frame,
                moving=controller.moving,
                accepted=controller.accepted,
                refused=controller.refused,
                refused_reason=controller.refused_reason,
                halts=controller.halts,
                last_halt=controller.last_halt,
                reason=controller.reason,
                message=controller.message,
                fault_reason=controller.fault_reason,
                fault=controller.fault,
            )
        )

    def _look(self, loop: RecedingHorizon, image: np.ndarray) -> list[ExecutedStep]:
        """Encode an image, plan from it and send the command: one step, or none."""
        started = time.perf_counter()
        latent = encode_as_sent(loop.world_model, image, self._settings.encoder)
        encode_seconds = time.perf_counter() - started
        self._observation = self._verdict = None
        self._execution.observe(EncodedImage(latent, self._now(), encode_seconds))
        if self._observation is None:
            return []
        step: Step | None = None
        try:
            outcome = step = self._observation.plan()
        except Exception as error:  # noqa: BLE001 - ends the goal, as in the node
            outcome = error
        self._execution.planned(self._observation, outcome)
        seconds = time.perf_counter() - started
        return [ExecutedStep(image, self._simulator.pose()[0], seconds, step, self._verdict)]

    def _now(self) -> float:
        return self._simulator.time

    def _on_plan(self, observation: Observation) -> None:
        self._observation = observation

    def _on_command(self, command: MotionCommand, reason: Reason) -> None:
        self._verdict = self._controller.command(command, self._now(), self._now())

    def _on_status(self, status: GoalStatus) -> None:
        self._status = status
