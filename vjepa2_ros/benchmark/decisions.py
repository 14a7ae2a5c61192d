# SPDX-License-Identifier: Apache-2.0
"""A fixed bundle of planning decisions whose best action is known.

Each is a scene of the simulation with the hand at one place and a goal image with it at another,
3 to 40 cm away; in every third one the gripper has to open or close as well. The image one step
before, on the way to the goal, is kept for planners that look back.

Decisions of contact are made apart: an open hand above an object, round it, with it in the fingers,
and pictures of what one action or two lead to: the object grasped, lifted or let go.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.settings.cell import Workspace
from vjepa2_ros.settings.simulator import SimulatorNodeSettings
from vjepa2_ros.simulation.actions import STEP_TIME, carry_out
from vjepa2_ros.simulation.simulator import (
    DOWN,
    GRASP_HEIGHTS,
    OBJECTS,
    Simulator,
    SimulatorConfig,
    Snapshot,
)
from vjepa2_ros.tasks.outcome import UPRIGHT
from vjepa2_ros.tasks.task import scene_seeds
from vjepa2_ros.world_model.world_model import WorldModel

NEAREST, FARTHEST = 0.03, 0.40
"""Distances [m] between hand and goal; their logarithms are spread evenly."""
IMAGE_SIZE = SimulatorNodeSettings().image_size
"""Side of the images [pixels]."""
GRIPPER_EVERY = 3
"""Every Nth decision is also about the gripper."""
CONTACTS = ("fetch", "grip", "lift", "release")
"""Decisions of contact. To fetch takes two actions, down and closed, the others take one."""
_LIFT = 0.06  # from a grasp to the hand above it [m]
_THERE = 0.03  # of hand and object from where the picture shows them [m]
_FIRST_CONTACT = 1000  # scene of a seed from which those of contact are
_ATTEMPTS = 20


@dataclass(frozen=True)
class Decision:
    """One observation and goal.

    Attributes:
        scene: seed of the scene.
        latent, goal, latent_before: of the present image, the goal image and the one a step before,
            [N, D].
        state, goal_state, state_before: of the robot at the same times, [7] float32.
        contact: one of `CONTACTS`, None for a decision without.
        start, end: of the cell, at the present and in the goal image, of a decision of contact.
        object: index in `OBJECTS` of what it is about.
    """

    scene: int
    latent: Tensor
    state: Tensor
    goal: Tensor
    goal_state: Tensor
    latent_before: Tensor
    state_before: Tensor
    contact: str | None = None
    start: Snapshot | None = None
    end: Snapshot | None = None
    object: int = 0

    def succeeds(self, actions: Tensor, simulator: Simulator) -> bool:
        """Whether actions [H, 7] lead to what the goal image of a decision of contact shows.

        Args:
            actions: of a plan, as it is, without looking again.
            simulator: of the cell; it is left at the end.
        """
        assert self.start is not None and self.end is not None
        simulator.restore(self.end)
        wanted = _true_state(simulator, self.object)
        simulator.restore(self.start)
        for _ in carry_out(simulator, actions):
            pass
        found = _true_state(simulator, self.object)
        near = [np.linalg.norm(a - b) <= _THERE for a, b in zip(wanted[:2], found[:2], strict=True)]
        upright = simulator.object_tilts()[self.object] <= UPRIGHT
        return bool(all(near) and upright and wanted[2] == found[2])

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


def make_contacts(
    model: WorldModel, seed: int, count: int, workspace: Workspace | None = None
) -> list[Decision]:
    """Decisions of contact, the same each time, of cup and box in turn; in scenes of their own.

    Arguments as in `make_decisions`.
    """
    simulator = Simulator(SimulatorConfig(workspace=workspace or Workspace()))
    scenes = scene_seeds(seed, _FIRST_CONTACT + count)[_FIRST_CONTACT:] if count else []
    return [_make_contact(simulator, model, scene, number) for number, scene in enumerate(scenes)]


def _make_contact(simulator: Simulator, model: WorldModel, scene: int, number: int) -> Decision:
    contact = CONTACTS[number % len(CONTACTS)]
    thing = number // len(CONTACTS) % len(OBJECTS)
    for attempt in range(_ATTEMPTS):
        simulator.reset(scene, variant=attempt)
        place = simulator.object_positions()[thing]
        grasp = np.append(place[:2], GRASP_HEIGHTS[thing])
        above = grasp + (0.0, 0.0, _LIFT)
        simulator.place(above, DOWN, 0.0)
        # Open above the object, open round it, closed, lifted.
        states = [simulator.snapshot()]
        for position, closedness in ((grasp, 0.0), (grasp, 1.0), (above, 1.0)):
            simulator.set_target(position, DOWN.as_quat(), closedness)
            simulator.advance(STEP_TIME)
            states.append(simulator.snapshot())
        if simulator.held()[thing] and simulator.object_tilts()[thing] <= UPRIGHT:
            break
    else:
        raise RuntimeError(f"nothing can be grasped in scene {scene}: use another seed")
    open_above, open_round, closed, lifted = states
    start, end = {
        "fetch": (open_above, closed),
        "grip": (open_round, closed),
        "lift": (closed, lifted),
        "release": (closed, open_round),
    }[contact]
    commanded = model.predictor.config.commanded_gripper
    simulator.restore(end)
    goal = _seen(simulator, model, commanded)
    simulator.restore(start)
    now = _seen(simulator, model, commanded)
    # The step before led here.
    return Decision(scene, *now, *goal, *now, contact, start, end, thing)


def _true_state(simulator: Simulator, thing: int) -> tuple[np.ndarray, np.ndarray, bool]:
    """Positions of hand and object, and whether it is held."""
    return simulator.pose()[0], simulator.object_positions()[thing], bool(simulator.held()[thing])


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


def _seen(
    simulator: Simulator, model: WorldModel, commanded: bool = False
) -> tuple[Tensor, Tensor]:
    """Latent [N, D] of what the camera sees, and the state [7], as measured or commanded."""
    latent = model.encode(simulator.render(IMAGE_SIZE))
    state = torch.from_numpy(simulator.state()).float()
    if commanded:
        state[6] = simulator.commanded_closedness
    return latent, state


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
