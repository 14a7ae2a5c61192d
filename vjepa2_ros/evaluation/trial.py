# SPDX-License-Identifier: Apache-2.0
"""One episode of a task, played to its end by the loop of the nodes in simulated time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vjepa2_ros.evaluation.simulated_stack import SimulatedStack
from vjepa2_ros.execution.goal_status import GoalState
from vjepa2_ros.planning.receding_horizon import RecedingHorizon
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.settings.stack import StackSettings
from vjepa2_ros.simulation.simulator import Simulator
from vjepa2_ros.tasks.outcome import HOLD_TIME, Cause
from vjepa2_ros.tasks.task import Episode, Task
from vjepa2_ros.tasks.truth import Trace, Truth


class PlanningFailedError(ValueError):
    """A plan could not be made: model, planner and settings do not fit each other."""


@dataclass(frozen=True)
class Trial:
    """What happened in one episode.

    Attributes:
        seed: of the scene.
        success: strict, see the task.
        cause: of a failure; None after success.
        distance: of hand or object to the target at the end [m].
        energies: latent distance to the sub-goal before each step.
        predicted_energies: the same after it, as predicted.
        subgoals: number of the sub-goal of each step, from 0.
        evaluations: sequences that each plan evaluated.
        plan_seconds: time of each plan [s].
        step_seconds: time of each step without the simulated motion [s]: encoding, planning, gate.
        hands: tool centre point before each step and at the end [steps + 1, 3] in metres.
        images: from which each step was planned, and at the end, uint8 RGB [size, size, 3].
        goal_image: the last picture of the episode, uint8 RGB [size, size, 3].
        clamped: texts of the gate, where it moved a target into the workspace.
        refused: texts of the gate, where it refused a command.
        end: state in which the goal ended.
        reason: why.
        message: the same in a sentence.
    """

    seed: int
    success: bool
    cause: Cause | None
    distance: float
    energies: list[float]
    predicted_energies: list[float]
    subgoals: list[int]
    evaluations: list[int]
    plan_seconds: list[float]
    step_seconds: list[float]
    hands: np.ndarray
    images: list[np.ndarray]
    goal_image: np.ndarray
    clamped: list[str]
    refused: list[str]
    end: GoalState
    reason: Reason
    message: str

    @property
    def steps(self) -> int:
        """Number of planned steps."""
        return len(self.energies)


def play(
    simulator: Simulator,
    task: Task,
    episode: Episode,
    loop: RecedingHorizon,
    settings: StackSettings,
) -> Trial:
    """Play one episode to its end, through goal execution and motion controller.

    Args:
        simulator: is put to the episode's start.
        task: judges.
        episode: the trial.
        loop: made for the latents of the episode's pictures.
        settings: of the nodes.

    Raises:
        PlanningFailedError: a plan could not be made.
    """
    simulator.restore(episode.start)
    truths = [Truth.of(simulator)]

    def observe() -> None:
        truths.append(Truth.of(simulator))

    executed, status = SimulatedStack(simulator, settings).execute(loop, observe)
    if status.reason is Reason.PLANNING_FAILED:
        raise PlanningFailedError(f"scene {episode.seed}: {status.message}")
    # Whether something is held, or stands, shows after a while.
    for _ in range(round(HOLD_TIME / simulator.config.control_period)):
        simulator.advance(simulator.config.control_period)
        observe()
    refused = [e.verdict.text for e in executed if e.verdict and not e.verdict.accepted]
    ended_refused = status.state == GoalState.FAILED and bool(refused)
    outcome = task.outcome(episode, Trace(truths), ended_refused)
    steps = [e.step for e in executed if e.step is not None]
    return Trial(
        seed=episode.seed,
        success=outcome.success,
        cause=outcome.cause,
        distance=outcome.distance,
        energies=[step.energy for step in steps],
        predicted_energies=[step.predicted_energy for step in steps],
        subgoals=[step.subgoal for step in steps],
        evaluations=[step.evaluations for step in steps],
        plan_seconds=[step.plan_seconds for step in steps],
        step_seconds=[e.seconds for e in executed],
        hands=np.stack([*(e.position for e in executed), simulator.pose()[0]]),
        images=[*(e.image for e in executed), simulator.render(settings.simulator.image_size)],
        goal_image=episode.subgoals[-1].image,
        clamped=[
            e.verdict.text
            for e in executed
            if e.verdict and e.verdict.accepted and e.verdict.reason is Reason.CLAMPED
        ],
        refused=refused,
        end=status.state,
        reason=status.reason,
        message=status.message,
    )
