# SPDX-License-Identifier: Apache-2.0
"""Plans once more from what a planner was given in a recorded run.

Open loop: each plan starts from the recorded image and the recorded state, whatever was planned
before, and is compared with the recorded command. Everything runs as fast as it can; the times that
the gate is told are the recorded ones.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vjepa2_ros.camera.decoding import MAX_PIXELS, ImageError, decode_image
from vjepa2_ros.execution.robot_report import RobotReport
from vjepa2_ros.planning.planners import make_planner
from vjepa2_ros.planning.receding_horizon import RecedingHorizon, make_loop
from vjepa2_ros.planning.step import Step
from vjepa2_ros.recording.reading import (
    BagError,
    RecordedCommand,
    RecordedGoal,
    Recording,
)
from vjepa2_ros.robot.controller import MotionController
from vjepa2_ros.robot.driver import RobotDescription, RobotState
from vjepa2_ros.robot.kinematics import JOINT_LIMITS, FrankaKinematics
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.robot.safety import MotionCommand
from vjepa2_ros.robot.urdf import prefix_of
from vjepa2_ros.settings.stack import StackSettings
from vjepa2_ros.world_model.poses import pose_from_state
from vjepa2_ros.world_model.world_model import WorldModel

SHORT = 0.003
"""Motions below this have no direction to compare [m]."""


@dataclass(frozen=True)
class ReplayedStep:
    """One plan, beside the command that was sent from the same image.

    Attributes:
        goal_id: goal.
        number: of the step in the goal, from 1.
        subgoal: from 0.
        recorded: motion of the recorded command from the recorded state [3] in metres.
        planned: the same of this plan.
        recorded_closedness, planned_closedness: of the two commands.
        energy, predicted_energy, surprise: see `planning.step.Step`.
        encode_seconds, plan_seconds: of this replay [s].
        verdict: of the gate on the planned command.
        finished: why the loop would have ended with this step; empty if it would not.
    """

    goal_id: str
    number: int
    subgoal: int
    recorded: np.ndarray
    planned: np.ndarray
    recorded_closedness: float
    planned_closedness: float
    energy: float
    predicted_energy: float
    surprise: float
    encode_seconds: float
    plan_seconds: float
    verdict: Reason
    finished: str

    @property
    def angle(self) -> float:
        """Between the two motions [rad]; NaN where one of them is short."""
        lengths = np.linalg.norm(self.recorded), np.linalg.norm(self.planned)
        if min(lengths) < SHORT:
            return math.nan
        cosine = float(self.recorded @ self.planned / (lengths[0] * lengths[1]))
        return math.acos(min(1.0, max(-1.0, cosine)))

    @property
    def distance(self) -> float:
        """Between the two targets [m]."""
        return float(np.linalg.norm(self.planned - self.recorded))


@dataclass(frozen=True)
class Replay:
    """All steps of a recording.

    Attributes:
        steps: in order.
        left_out: recorded commands that there was no plan for, by why.
        digest: 16 hexadecimal digits of all plans: two replays that planned the same have the same.
    """

    steps: tuple[ReplayedStep, ...]
    left_out: dict[str, int]
    digest: str


def replay(
    recording: Recording,
    model: WorldModel,
    settings: StackSettings,
    progress: Callable[[], None] = lambda: None,
) -> Replay:
    """Replay every goal of a recording.

    Args:
        recording: read from a bag.
        model: encodes and predicts.
        settings: of the nodes.
        progress: called after each command.

    Raises:
        BagError: a goal's image cannot be decoded, or no plan can be made for a goal.
    """
    steps: list[ReplayedStep] = []
    left_out: dict[str, int] = {}
    digest = hashlib.sha256()
    for goal in recording.goals:
        commands = recording.commands_of(goal)
        if not commands:
            continue
        run = _GoalReplay(recording, goal, model, settings)
        for recorded in commands:
            outcome = run.step(recorded)
            if isinstance(outcome, str):
                left_out[outcome] = left_out.get(outcome, 0) + 1
            else:
                step, plan = outcome
                steps.append(step)
                digest.update(plan.action.numpy().tobytes())
                digest.update(np.array([plan.energy, plan.predicted_energy], np.float32).tobytes())
            progress()
    return Replay(tuple(steps), left_out, digest.hexdigest()[:16])


class _RecordedRobot:
    """Driver of a robot that does what it did."""

    def __init__(self, recording: Recording, settings: StackSettings) -> None:
        self._states: Sequence[RobotState] = recording.states
        self._stamps = np.array([state.stamp for state in recording.states])
        self._now = -math.inf
        prefix = prefix_of(recording.joint_names)
        limits = JOINT_LIMITS["panda" if (prefix or "").startswith("panda") else "fr3"]
        known = prefix is not None
        self._description = RobotDescription(
            "recorded robot",
            settings.controller.limits.max_speed,
            settings.controller.franka.gripper_stroke,
            recording.joint_names,
            limits.lower if known else None,
            limits.upper if known else None,
            FrankaKinematics() if known else None,
        )

    def at(self, now: float) -> None:
        self._now = now

    def describe(self) -> RobotDescription:
        return self._description

    def read_state(self) -> RobotState:
        index = int(np.searchsorted(self._stamps, self._now, side="right")) - 1
        return self._states[max(0, index)]

    def move_to(self, *_: object) -> None:
        pass

    def stop(self) -> None:
        pass

    def recover(self) -> None:
        pass

    def close(self) -> None:
        pass


class _GoalReplay:
    """One goal: the loop, and the gate with a robot that does what it did."""

    def __init__(
        self, recording: Recording, goal: RecordedGoal, model: WorldModel, settings: StackSettings
    ) -> None:
        self._recording, self._goal, self._model = recording, goal, model
        self._settings = settings
        self._robot = _RecordedRobot(recording, settings)
        self._loop = self._make_loop()
        self._number = 0

    def _make_loop(self) -> RecedingHorizon:
        goal, planner = self._goal, self._settings.planner
        try:
            latents = [self._encode(decode_image(data, MAX_PIXELS)) for data in goal.images]
            return make_loop(
                planner,
                make_planner(planner.search),
                self._model,
                torch.stack(latents),
                goal.steps,
                goal.gripper,
                None if goal.states is None else torch.from_numpy(goal.states).float(),
            )
        except (ImageError, ValueError) as error:
            raise BagError(f"{goal.goal_id}: {error}") from error

    def _encode(self, image: np.ndarray) -> torch.Tensor:
        latent = self._model.encode(image)
        return latent.half().float() if self._settings.encoder.half_precision else latent

    def step(self, recorded: RecordedCommand) -> tuple[ReplayedStep, Step] | str:
        """Plan from the image of a command; a text says why there is no plan."""
        if self._loop.finished:
            return f"after {self._loop.finished}"
        command = recorded.command
        stamp = command.observation_stamp
        state = self._recording.state_at(stamp, self._settings.planner.execution.state_tolerance)
        if state is None:
            return "no state at the time of the image"
        if problem := state.problem():
            return problem
        started = time.perf_counter()
        latent = self._encode(self._recording.images[stamp])
        encoded = time.perf_counter()
        commanded = self._model.predictor.config.commanded_gripper
        vector = RobotReport(state).state_vector(commanded)
        plan = self._loop.step(latent, vector, None, state.commanded_closedness)
        planned = time.perf_counter()
        self._number += 1
        position, quaternion, closedness = pose_from_state(plan.target_state.double().numpy())
        verdict = self._judge(recorded, position, quaternion, closedness)
        step = ReplayedStep(
            goal_id=self._goal.goal_id,
            number=self._number,
            subgoal=plan.subgoal,
            recorded=command.position - state.position,
            planned=position - state.position,
            recorded_closedness=command.gripper_closedness,
            planned_closedness=closedness,
            energy=plan.energy,
            predicted_energy=plan.predicted_energy,
            surprise=plan.surprise,
            encode_seconds=encoded - started,
            plan_seconds=planned - encoded,
            verdict=verdict,
            finished=plan.finished or "",
        )
        return step, plan

    def _judge(
        self,
        recorded: RecordedCommand,
        position: np.ndarray,
        quaternion: np.ndarray,
        closedness: float,
    ) -> Reason:
        """What the gate says of a planned command, at the time when the recorded one came."""
        now, settings = recorded.received, self._settings.controller
        self._robot.at(now)
        # Another one each time: a fault that it latched would be the verdict on all that follow.
        controller = MotionController(self._robot, settings.limits, settings.planner_timeout)
        controller.tick(now, now)
        command = MotionCommand(
            goal_id=self._goal.goal_id,
            sequence=self._number,
            observation_stamp=recorded.command.observation_stamp,
            position=position,
            quaternion_xyzw=quaternion,
            gripper_closedness=closedness,
            lifetime=recorded.command.lifetime,
            frame=self._recording.frame,
        )
        return controller.command(command, now, now).reason
