# SPDX-License-Identifier: Apache-2.0
"""Short straight approaches to an object, which end in a grasp, beside it, or in its fall.

Whether an open hand fits over an object or overturns it is a matter of a centimetre and of how
steeply it comes down. Play shows that too seldom to learn it: here every episode does.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vjepa2_ros.simulation.simulator import GRASP_HEIGHTS, OBJECTS, Simulator, hand_rotation
from vjepa2_ros.training.play import MAX_YAW

APPROACH_LENGTH = 5
"""Frames in an episode: up to three steps of the hand, one of the fingers, and one more."""
_MOST_STEPS = 3
_NEAREST, _HIGHEST = 0.02, 0.12  # way of the hand, and its height over the end [m]
_MISS = (0.012, 0.012, 0.008)  # standard deviations of the end from the grasp [m]
_SLACK = 0.95  # of the bound on a step, so that noise does not exceed it
_YAW_NOISE = 0.06  # standard deviation [rad]


def approach(
    simulator: Simulator, random: np.random.Generator, max_translation: float, turning: bool
) -> Iterator[None]:
    """Approach an object, close or open the fingers, lift, without an end; one second a step.

    Args:
        simulator: reset by the caller.
        random: decides everything.
        max_translation: bound of one step on each axis [m].
        turning: whether the hand is turned to how the box lies, or anyhow; else it is straight.
    """
    workspace = simulator.config.workspace
    thing = int(random.integers(len(OBJECTS)))
    yaw = _yaw(simulator, random, thing) if turning else 0.0
    rotation = hand_rotation(yaw)
    place = simulator.object_positions()[thing]
    end = np.append(place[:2], GRASP_HEIGHTS[thing]) + random.normal(0.0, _MISS)
    steps = int(random.integers(1, _MOST_STEPS + 1))
    farthest = _SLACK * max_translation * steps
    angle = random.uniform(-np.pi, np.pi)
    beside = random.uniform(min(_NEAREST, farthest), farthest)
    above = random.uniform(0.0, min(_HIGHEST, farthest))
    start = end + (beside * np.cos(angle), beside * np.sin(angle), above)
    closedness = 0.0 if random.uniform() < 0.8 else 1.0
    start, end = (np.clip(point, workspace.lower, workspace.upper) for point in (start, end))
    simulator.place(start, rotation, closedness)
    target = simulator.pose()[0]
    step = (end - target) / steps
    yield
    for _ in range(steps):
        target = target + step
        simulator.set_target(target, rotation.as_quat(), closedness)
        simulator.advance(1.0)
        yield
    closedness = 1.0 - closedness if random.uniform() < 0.9 else closedness
    while True:
        simulator.set_target(target, rotation.as_quat(), closedness)
        simulator.advance(1.0)
        yield
        away = np.append(random.normal(0.0, 0.02, 2), random.uniform(0.0, _SLACK * max_translation))
        target = np.clip(target + away, workspace.lower, workspace.upper)


def _yaw(simulator: Simulator, random: np.random.Generator, thing: int) -> float:
    if OBJECTS[thing] == "box" and random.uniform() < 0.7:
        yaw = simulator.grasp_yaws()[thing] + random.normal(0.0, _YAW_NOISE)
        return float(np.clip(yaw, -MAX_YAW, MAX_YAW))
    return float(random.uniform(-MAX_YAW, MAX_YAW))
