# SPDX-License-Identifier: Apache-2.0
"""The reach task: from a random pose to the pose that a goal image shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from vjepa2_ros.evaluation.simulated_stack import SimulatedStack
from vjepa2_ros.execution.goal_status import GoalState
from vjepa2_ros.planning.receding_horizon import RecedingHorizon
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.settings.planning import ActionSettings
from vjepa2_ros.settings.simulator import SimulatorNodeSettings
from vjepa2_ros.settings.stack import StackSettings
from vjepa2_ros.simulation.simulator import DOWN, TRAINING_SCENES, Simulator, SimulatorConfig

IMAGE_SIZE = SimulatorNodeSettings().image_size
"""Side of the images, unless the settings say otherwise [pixels]."""
SUCCESS_DISTANCE = 0.04
"""Distance of the hand to the goal pose within which an episode counts as reached [m]."""
NEAREST, FARTHEST = 0.15, 0.40
"""Distances between start and goal [m]."""
CLEARANCE = 0.10
"""Least distance of a low goal from cup and box, seen from above [m]."""
SCENES_PER_SEED = 10_000
"""Most episodes of one evaluation, so that the scenes of two seeds never meet."""


@dataclass(frozen=True)
class ReachEpisode:
    """One trial: the scene of `seed`, a start, and a goal with its image.

    Attributes:
        seed: of the scene; `Simulator.reset(seed)` places the objects, and the hand at the start.
        start_state, goal_state: 7-D states [7] float64.
        goal_image: uint8 RGB [size, size, 3], the hand at the goal in the same scene.
    """

    seed: int
    start_state: np.ndarray
    goal_state: np.ndarray
    goal_image: np.ndarray

    @classmethod
    def sample(
        cls, seed: int, simulator: Simulator | None = None, image_size: int = IMAGE_SIZE
    ) -> ReachEpisode:
        """The episode of a seed, the same each time; leaves `simulator` at its start.

        Args:
            seed: of the scene.
            simulator: the cell, a new one if None.
            image_size: side of the goal image [pixels].
        """
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
        goal_state, image = simulator.state(), simulator.render(image_size)
        simulator.reset(seed)
        return cls(seed, start, goal_state, image)

    def distance(self, position: np.ndarray) -> float:
        """Distance of a position [3] of the hand to the goal [m]."""
        return float(np.linalg.norm(position - self.goal_state[:3]))


def scene_seeds(seed: int, episodes: int) -> list[int]:
    """Scenes of the evaluation `seed`: different ones for each seed, and none used in training.

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
        episode: the trial.
        distances: of the hand to the goal pose [m], at the start and after each planned step.
        energies: latent distance to the goal before each step.
        predicted_energies: the same after it, as predicted.
        plan_seconds: time of each plan [s].
        step_seconds: time of each step without the simulated motion [s]: encoding, planning, gate.
        images: from which each step was planned, and at the end, uint8 RGB [size, size, 3].
        clamped: texts of the gate, where it moved a target into the workspace.
        refused: texts of the gate, where it refused a command.
        end: state in which the goal ended.
        reason: why.
        message: the same in a sentence.
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
    end: GoalState = GoalState.IDLE
    reason: Reason = Reason.NONE
    message: str = ""

    @property
    def steps(self) -> int:
        """Number of planned steps."""
        return len(self.energies)

    @property
    def reached(self) -> bool:
        """True when the hand is within `SUCCESS_DISTANCE` of the goal at the end."""
        return self.distances[-1] <= SUCCESS_DISTANCE


def run_episode(
    simulator: Simulator,
    episode: ReachEpisode,
    loop: RecedingHorizon,
    settings: StackSettings,
) -> ReachResult:
    """Play one episode to its end, through goal execution and motion controller.

    Args:
        simulator: is reset to the episode's scene.
        episode: the trial.
        loop: made for the latent of the episode's goal image.
        settings: of the nodes.
    """
    simulator.reset(episode.seed)
    result = ReachResult(episode)
    steps, status = SimulatedStack(simulator, settings).execute(loop)
    for executed in steps:
        result.images.append(executed.image)
        result.distances.append(episode.distance(executed.position))
        result.step_seconds.append(executed.seconds)
        if executed.step is not None:
            result.energies.append(executed.step.energy)
            result.predicted_energies.append(executed.step.predicted_energy)
            result.plan_seconds.append(executed.step.plan_seconds)
        verdict = executed.verdict
        if verdict is not None and not verdict.accepted:
            result.refused.append(verdict.text)
        elif verdict is not None and verdict.reason is Reason.CLAMPED:
            result.clamped.append(verdict.text)
    result.images.append(simulator.render(settings.simulator.image_size))
    result.distances.append(episode.distance(simulator.pose()[0]))
    result.end, result.reason, result.message = status.state, status.reason, status.message
    return result


def run_episodes(
    seeds: Sequence[int],
    make_loop: Callable[[np.ndarray], RecedingHorizon],
    settings: StackSettings,
) -> Iterator[ReachResult]:
    """Play the episodes of `seeds` in order.

    Args:
        seeds: see `scene_seeds`.
        make_loop: returns a new loop for a goal image uint8 RGB [size, size, 3].
        settings: of the nodes.
    """
    simulator = Simulator(SimulatorConfig(workspace=settings.simulator.workspace))
    for seed in seeds:
        episode = ReachEpisode.sample(seed, simulator, settings.simulator.image_size)
        yield run_episode(simulator, episode, make_loop(episode.goal_image), settings)


def true_descent(
    simulator: Simulator,
    episode: ReachEpisode,
    encode: Callable[[np.ndarray], Tensor],
    candidates: int = 40,
    steps: int = 8,
    bound: float = ActionSettings().max_translation,
) -> list[float]:
    """A greedy descent over true next images, without a predictor.

    At each step the hand is placed at random positions, and stays at the one whose latent is
    nearest to the goal's. The distance that remains is due to the representation alone.

    Args:
        simulator: is reset to the episode's scene.
        episode: the trial.
        encode: image uint8 RGB to latent [N, D].
        candidates: positions tried in each step.
        steps: number of steps.
        bound: of a step on each axis [m].

    Returns:
        Distances to the goal [m], at the start and after each step.
    """
    random = np.random.default_rng([episode.seed, 2])
    simulator.reset(episode.seed)
    goal: Tensor = encode(episode.goal_image)
    config = simulator.config
    distances = [episode.distance(simulator.pose()[0])]
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
        distances.append(episode.distance(simulator.pose()[0]))
    return distances
