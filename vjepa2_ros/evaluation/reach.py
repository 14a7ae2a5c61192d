# SPDX-License-Identifier: Apache-2.0
"""The reach task: from a random pose to the pose that a goal picture shows.

The loop is the one of the nodes, with time made of simulated seconds: picture, latent, plan, gate,
motion, next picture.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from vjepa2_ros.planning.receding_horizon import RecedingHorizon
from vjepa2_ros.robot.driver import RobotState
from vjepa2_ros.robot.safety import CommandGate, MotionCommand, MotionLimits, Reason
from vjepa2_ros.simulation.simulator import DOWN, TRAINING_SCENES, Simulator
from vjepa2_ros.world_model.poses import pose_from_state

IMAGE_SIZE = 256
"""Side [px] of the pictures, as the camera of the simulated cell publishes them."""
STEP_SECONDS = 1.0
"""Simulated time of one step, the model's own (see the package's notes on the released data)."""
SUCCESS_DISTANCE = 0.04
"""Distance [m] of the hand to the goal pose within which an episode counts as reached."""
NEAREST, FARTHEST = 0.15, 0.40
"""Distances [m] between start and goal."""
CLEARANCE = 0.10
"""Least distance [m] of a low goal from cup and box, seen from above."""
SCENES_PER_SEED = 10_000
"""Most episodes of one evaluation, so that the scenes of two seeds never meet."""


@dataclass(frozen=True)
class ReachEpisode:
    """One trial: the scene of `seed`, a start, and a goal with its picture.

    Attributes:
        seed: of the scene; `Simulator.reset(seed)` lays the objects and the hand at the start.
        start_state, goal_state: 7-D states [7] float64.
        goal_image: uint8 RGB [256, 256, 3], the hand at the goal in the same scene.
    """

    seed: int
    start_state: np.ndarray
    goal_state: np.ndarray
    goal_image: np.ndarray

    @classmethod
    def sample(cls, seed: int, simulator: Simulator | None = None) -> "ReachEpisode":
        """The episode of a seed, the same each time; leaves `simulator` at its start."""
        simulator = simulator or Simulator()
        config = simulator.config
        simulator.reset(seed)
        start = simulator.state()
        objects = simulator.object_positions()[:, :2]
        random = np.random.default_rng([seed, 1])
        while True:
            goal = random.uniform(config.workspace.lower, config.workspace.upper)
            clear = goal[2] > 0.2 or np.linalg.norm(objects - goal[:2], axis=1).min() > CLEARANCE
            if clear and NEAREST <= np.linalg.norm(goal - start[:3]) <= FARTHEST:
                break
        simulator.place(goal, DOWN, 0.0)
        goal_state, image = simulator.state(), simulator.render(IMAGE_SIZE)
        simulator.reset(seed)
        return cls(seed, start, goal_state, image)


def scene_seeds(seed: int, episodes: int) -> list[int]:
    """Scenes of the evaluation `seed`: other ones for each seed, and none that belongs to training.

    Raises:
        ValueError: `seed` is negative, or `episodes` not within 1 … `SCENES_PER_SEED`.
    """
    if seed < 0:
        raise ValueError(f"the seed must be 0 or more, not {seed}")
    if not 1 <= episodes <= SCENES_PER_SEED:
        raise ValueError(f"{episodes} episodes: a seed has scenes for 1 to {SCENES_PER_SEED}")
    first = seed * SCENES_PER_SEED
    if first >= TRAINING_SCENES.start:
        first += len(TRAINING_SCENES)
    return list(range(first, first + episodes))


@dataclass
class ReachResult:
    """What happened in one episode.

    Attributes:
        distances: of the hand to the goal pose [m], at the start and after each step.
        energies: latent distance to the goal before each step.
        predicted_energies: the same after it, as the planner imagined.
        plan_seconds: time of each plan [s].
        step_seconds: time of each step but for the simulated motion [s]: encoding, planning, gate.
        images: what the camera saw before each step and at the end, uint8 RGB [256, 256, 3] each.
        clamped: texts of the gate, where it moved a target into the workspace.
        refused: texts of the gate, where it refused a command.
        finished: "reached" when the loop stopped itself, else "step_limit".
    """

    episode: ReachEpisode
    distances: list[float] = field(default_factory=list)
    energies: list[float] = field(default_factory=list)
    predicted_energies: list[float] = field(default_factory=list)
    plan_seconds: list[float] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)
    images: list[np.ndarray] = field(default_factory=list)
    clamped: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    finished: str = "step_limit"

    @property
    def steps(self) -> int:
        """Number of planned steps."""
        return len(self.energies)

    @property
    def reached(self) -> bool:
        """True when the hand stands within `SUCCESS_DISTANCE` of the goal at the end."""
        return self.distances[-1] <= SUCCESS_DISTANCE


def run_episode(
    simulator: Simulator, episode: ReachEpisode, loop: RecedingHorizon, limits: MotionLimits
) -> ReachResult:
    """Play one episode to its end.

    Args:
        loop: made for the latent of the episode's goal picture.
        limits: of the controller; a refused command leaves the arm where it is for that step.
    """
    simulator.reset(episode.seed)
    result = ReachResult(episode, distances=[_distance(simulator, episode)])
    gate = CommandGate(limits)
    while loop.finished is None:
        image = simulator.render(IMAGE_SIZE)
        result.images.append(image)
        started = time.perf_counter()
        state = simulator.state()
        step = loop.step(loop.world_model.encode(image), torch.from_numpy(state).float())
        now = simulator.data.time
        position, quaternion, closedness = pose_from_state(step.target_state.double().numpy())
        verdict = gate.check(
            MotionCommand(str(episode.seed), step.step, now, position, quaternion, closedness),
            RobotState(*simulator.pose(), stamp=now),
            now,
        )
        result.step_seconds.append(time.perf_counter() - started)
        result.energies.append(step.energy)
        result.predicted_energies.append(step.predicted_energy)
        result.plan_seconds.append(step.plan_seconds)
        if verdict.accepted:
            simulator.set_target(verdict.position, quaternion, closedness)
        else:
            result.refused.append(verdict.text)
        if verdict.reason is Reason.CLAMPED:
            result.clamped.append(verdict.text)
        simulator.advance(STEP_SECONDS)
        result.distances.append(_distance(simulator, episode))
        result.finished = step.finished or result.finished
    result.images.append(simulator.render(IMAGE_SIZE))
    return result


def run_episodes(seeds: list[int], make_loop, limits: MotionLimits) -> Iterator[ReachResult]:
    """Play the episodes of `seeds` in order; `make_loop(goal_image)` returns a fresh loop."""
    simulator = Simulator()
    for seed in seeds:
        episode = ReachEpisode.sample(seed, simulator)
        yield run_episode(simulator, episode, make_loop(episode.goal_image), limits)


def true_descent(
    simulator: Simulator,
    episode: ReachEpisode,
    encode,
    candidates: int = 40,
    steps: int = 8,
    bound: float = 0.075,
) -> list[float]:
    """Distances to the goal [m] of a greedy descent over true next pictures, with no predictor.

    At each step the hand is put at `candidates` random places within `bound` on each axis, and
    stays at the one whose latent is nearest to the goal's. What this leaves is the fault of the
    representation alone.

    Args:
        encode: image uint8 RGB -> latent [N, D].
    """
    random = np.random.default_rng([episode.seed, 2])
    simulator.reset(episode.seed)
    goal: Tensor = encode(episode.goal_image)
    config = simulator.config
    distances = [_distance(simulator, episode)]
    for _ in range(steps):
        here = simulator.pose()[0]
        places = np.clip(
            here + random.uniform(-bound, bound, (candidates, 3)),
            config.workspace.lower,
            config.workspace.upper,
        )
        places = np.concatenate([here[None], places])
        energies = []
        for place in places:
            simulator.place(place, DOWN, 0.0)
            energies.append(float((encode(simulator.render(IMAGE_SIZE)) - goal).abs().mean()))
        simulator.place(places[int(np.argmin(energies))], DOWN, 0.0)
        distances.append(_distance(simulator, episode))
    return distances


def _distance(simulator: Simulator, episode: ReachEpisode) -> float:
    return float(np.linalg.norm(simulator.pose()[0] - episode.goal_state[:3]))
