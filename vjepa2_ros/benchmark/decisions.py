# SPDX-License-Identifier: Apache-2.0
"""A fixed bundle of planning decisions whose best action is known.

Each is a scene of the simulation with the hand at one place and a goal image with it at another,
3 to 40 cm away; in every third one the gripper has to open or close as well. The image one step
before, on the way to the goal, is kept for planners that look back.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.settings.cell import Workspace
from vjepa2_ros.settings.simulator import SimulatorNodeSettings
from vjepa2_ros.simulation.simulator import DOWN, Simulator, SimulatorConfig
from vjepa2_ros.tasks.task import scene_seeds
from vjepa2_ros.world_model.world_model import WorldModel

NEAREST, FARTHEST = 0.03, 0.40
"""Distances [m] between hand and goal; their logarithms are spread evenly."""
IMAGE_SIZE = SimulatorNodeSettings().image_size
"""Side of the images [pixels]."""
GRIPPER_EVERY = 3
"""Every Nth decision is also about the gripper."""


@dataclass(frozen=True)
class Decision:
    """One observation and goal.

    Attributes:
        scene: seed of the scene.
        latent, goal, latent_before: of the present image, the goal image and the one a step before,
            [N, D].
        state, goal_state, state_before: of the robot at the same times, [7] float32.
    """

    scene: int
    latent: Tensor
    state: Tensor
    goal: Tensor
    goal_state: Tensor
    latent_before: Tensor
    state_before: Tensor

    def error(self, actions: Tensor, space: ActionSpace) -> float:
        """Distance [m] between where actions [H, 7] lead and the best place within their bounds.

        The arm follows its targets within millimetres, and bounds are per axis: the best place is
        the goal itself, or the nearest point of the box that H actions span.
        """
        reach = space.horizon * space.max_translation
        best = (self.goal_state - self.state)[:3].clamp(-reach, reach)
        return float((actions[:, :3].sum(dim=0) - best).norm())

    def gripper_is_right(self, actions: Tensor) -> bool:
        """Whether actions [H, 7] open, hold or close the gripper as the goal does."""
        wanted = float((self.goal_state - self.state)[6])
        found = float(actions[:, 6].sum())
        return (abs(found) > 0) == (abs(wanted) > 0.5) and found * wanted >= 0


def make_decisions(
    model: WorldModel, seed: int, count: int, workspace: Workspace | None = None
) -> list[Decision]:
    """The bundle of a seed, the same each time; no scene of it was trained on.

    Args:
        model: encodes the images.
        seed: of the bundle.
        count: number of decisions.
        workspace: of hand and goals; None for the default.
    """
    simulator = Simulator(SimulatorConfig(workspace=workspace or Workspace()))
    return [
        _make_decision(simulator, model, scene, number)
        for number, scene in enumerate(scene_seeds(seed, count))
    ]


def _make_decision(simulator: Simulator, model: WorldModel, scene: int, number: int) -> Decision:
    # Another stream than the scene's own, and than the reach task's of the same scene.
    random = np.random.default_rng([scene, 3])
    simulator.reset(scene)
    start = simulator.pose()[0]
    place = _goal_place(simulator, start, random)
    closedness = float(random.integers(2))
    goal_closedness = 1.0 - closedness if number % GRIPPER_EVERY == 0 else closedness
    simulator.place(place, DOWN, goal_closedness)
    goal = _seen(simulator, model)
    bound = ActionSpace().max_translation
    before = start - (place - start).clip(-bound, bound)
    config = simulator.config
    before = before.clip(config.workspace.lower, config.workspace.upper)
    simulator.place(before, DOWN, closedness)
    earlier = _seen(simulator, model)
    simulator.place(start, DOWN, closedness)
    return Decision(scene, *_seen(simulator, model), *goal, *earlier)


def _seen(simulator: Simulator, model: WorldModel) -> tuple[Tensor, Tensor]:
    """Latent [N, D] of what the camera sees, and the state [7]."""
    latent = model.encode(simulator.render(IMAGE_SIZE))
    return latent, torch.from_numpy(simulator.state()).float()


def _goal_place(simulator: Simulator, start: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A place in the workspace at a drawn distance, or nearer where none is found there."""
    config = simulator.config
    distance = np.exp(random.uniform(np.log(NEAREST), np.log(FARTHEST)))
    while True:
        for _ in range(20):
            direction = random.normal(size=3)
            place = start + distance * direction / np.linalg.norm(direction)
            if np.all((place >= config.workspace.lower) & (place <= config.workspace.upper)):
                return place
        distance = max(NEAREST, 0.9 * distance)
