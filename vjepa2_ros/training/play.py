# SPDX-License-Identifier: Apache-2.0
"""Noisy scripted play at the objects: what random motion alone hardly ever shows.

A script is a sequence of waypoints relative to an object: grasp, lift, carry and place it, drop it,
close beside it, push it, run into it on a straight way, open and close the fingers around it, or
move about it at random. One script follows another until the episode is over. The truth about the
objects decides where the hand goes, as a person at a robot would; no training step sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from vjepa2_ros.simulation.simulator import (
    GRASP_HEIGHTS,
    OBJECTS,
    Simulator,
    hand_rotation,
)

Waypoint = tuple[np.ndarray, float]
"""Position [3] in metres and gripper closedness to go to."""

_ABOVE = 0.10  # height over a grasp from which the hand comes down [m]
_CLEAR = 0.10  # height over a grasp at which an object is carried at most [m]
_WAYPOINT_NOISE = (0.006, 0.006, 0.005)  # standard deviations [m]
_STEP_NOISE = 0.004
_NEAR = 0.012  # a waypoint counts as reached within this distance [m]
_PATIENCE = 5  # steps towards one waypoint at most
_SETTLE = 0.8  # time for the fingers to close [s]
MAX_YAW = 0.8
"""The hand is turned by at most this angle [rad] either way."""
MAX_TURN = 0.35
"""Bound of one step's change of the yaw [rad]."""
_YAW_NOISE = 0.06  # standard deviation [rad]


class Play:
    """Plays in one scene, step by step.

    Args:
        simulator: reset by the caller.
        random: decides everything.
        max_translation: bound of one step on each axis [m].
        turning: whether the hand turns about the vertical axis, to how the box lies for instance.
    """

    def __init__(
        self,
        simulator: Simulator,
        random: np.random.Generator,
        max_translation: float,
        turning: bool = False,
    ) -> None:
        self._simulator = simulator
        self._random = random
        self._bound = max_translation
        self._turning = turning
        self._object = int(random.integers(len(OBJECTS)))
        self._yaw = 0.0

    def begin(self) -> None:
        """Put the hand where an episode begins: anywhere, over an object, at it, or holding it."""
        random, simulator = self._random, self._simulator
        where = random.choice(["anywhere", "above", "at", "holding"], p=[0.25, 0.3, 0.15, 0.3])
        position, closedness = simulator.pose()[0], float(random.choice([0.0, 0.0, 1.0]))
        if where == "above":
            position = self._grasp() + random.normal(0.0, 0.02, 3) + (0.0, 0.0, _ABOVE)
        elif where in ("at", "holding"):
            position, closedness = self._grasp() + self._noise(), 0.0
        self._yaw = self._wanted_yaw()
        simulator.place(self._inside(position), hand_rotation(self._yaw), closedness)
        if where == "holding":
            self._move(position, 1.0, _SETTLE)
            self._move(position + (0.0, 0.0, random.uniform(0.0, _CLEAR + 0.08)), 1.0, 1.0)

    def step(self, script: Iterator[Waypoint]) -> Iterator[None]:
        """Carry out the waypoints of a script; one second of motion a step."""
        yaw = self._wanted_yaw()
        for waypoint, closedness in script:
            for attempt in range(_PATIENCE):
                offset = waypoint - self._simulator.pose()[0]
                if attempt and np.linalg.norm(offset) < _NEAR:
                    break
                step = np.clip(offset, -self._bound, self._bound)
                step = step + self._random.normal(0.0, _STEP_NOISE, 3)
                self._yaw += float(np.clip(yaw - self._yaw, -MAX_TURN, MAX_TURN))
                self._move(self._simulator.pose()[0] + step, closedness, 1.0)
                yield

    def steps(self) -> Iterator[None]:
        """Play without an end; one second of motion a step."""
        scripts: list[Callable[[], Iterator[Waypoint]]] = [
            self._place,
            self._drop,
            self._miss,
            self._push,
            self._collide,
            self._fiddle,
            self._wander,
        ]
        while True:
            # A script goes on with what the hand holds.
            held = self._simulator.held()
            if held.any():
                self._object = int(held.argmax())
            elif self._random.uniform() < 0.3 or not self._reachable():
                self._object = 1 - self._object
            number = self._random.choice(len(scripts), p=[0.3, 0.06, 0.1, 0.14, 0.2, 0.08, 0.12])
            yield from self.step(scripts[number]())

    # Scripts --------------------------------------------------------------------------------

    def _lift(self) -> Iterator[Waypoint]:
        """Grasp the object, unless the hand holds it, and lift it."""
        random = self._random
        if not self._simulator.held()[self._object]:
            above = self._grasp() + self._noise() + (0.0, 0.0, random.uniform(0.06, 0.14))
            if random.uniform() < 0.75:
                yield above, 0.0
            yield self._grasp() + self._noise(), 0.0
            yield self._simulator.pose()[0] + 0.3 * self._noise(), self._closing()
        height = random.uniform(0.03, _CLEAR + 0.05)
        yield self._simulator.pose()[0] + self._noise() + (0.0, 0.0, height), self._closing()

    def _place(self) -> Iterator[Waypoint]:
        yield from self._lift()
        random, height = self._random, GRASP_HEIGHTS[self._object]
        for _ in range(random.integers(1, 3)):
            place = self._somewhere(height + random.uniform(0.02, _CLEAR))
            yield place, 1.0
        low = self._simulator.pose()[0].copy()
        low[2] = height + random.uniform(-0.005, 0.02)
        yield low, 1.0
        yield self._simulator.pose()[0] + 0.3 * self._noise(), self._opening()
        yield self._simulator.pose()[0] + self._noise() + (0.0, 0.0, random.uniform(0, 0.14)), 0.0

    def _drop(self) -> Iterator[Waypoint]:
        yield from self._lift()
        yield self._simulator.pose()[0] + self._noise(), self._opening()

    def _miss(self) -> Iterator[Waypoint]:
        random = self._random
        beside = self._grasp() + np.append(self._direction() * random.uniform(0.02, 0.07), 0.0)
        if random.uniform() < 0.5:
            yield beside + (0.0, 0.0, _ABOVE), 0.0
        yield beside + self._noise(), 0.0
        yield self._simulator.pose()[0] + self._noise(), self._closing()
        yield self._simulator.pose()[0] + (0.0, 0.0, random.uniform(0.03, 0.12)), self._closing()

    def _push(self) -> Iterator[Waypoint]:
        random, direction = self._random, self._direction()
        closedness = float(random.choice([1.0, 1.0, 0.0, random.uniform()]))
        start = self._grasp() - np.append(direction * random.uniform(0.07, 0.12), 0.0)
        if random.uniform() < 0.7:
            yield start + (0.0, 0.0, _ABOVE), closedness
        yield start + self._noise(), closedness
        end = self._grasp() + np.append(direction * random.uniform(0.0, 0.12), 0.0)
        yield end + self._noise(), closedness

    def _collide(self) -> Iterator[Waypoint]:
        """Straight at the object from beside it, and perhaps grip: what a hasty plan does.

        A search finds whatever a predictor is too optimistic about; it has to have seen what comes
        of a hand that does not go round or come down from above.
        """
        random, direction = self._random, self._direction()
        closedness = float(random.choice([0.0, 0.0, 1.0]))
        beside = np.append(-direction * random.uniform(0.08, 0.2), random.uniform(0.0, 0.1))
        yield self._grasp() + beside, closedness
        beyond = np.append(direction * random.uniform(-0.03, 0.04), random.uniform(0.0, 0.03))
        yield self._grasp() + beyond, closedness
        if closedness == 0.0 and random.uniform() < 0.6:
            yield self._simulator.pose()[0] + 0.3 * self._noise(), self._closing()
            yield self._simulator.pose()[0] + (0.0, 0.0, random.uniform(0.0, 0.1)), 1.0

    def _fiddle(self) -> Iterator[Waypoint]:
        around = self._grasp() + self._noise()
        for _ in range(self._random.integers(2, 5)):
            place = around + self._random.normal(0.0, 0.012, 3)
            yield place, float(self._random.choice([0.0, 1.0, self._random.uniform()]))

    def _wander(self) -> Iterator[Waypoint]:
        random = self._random
        closedness = float(random.choice([0.0, 1.0]))
        for _ in range(random.integers(3, 7)):
            offset = np.append(random.normal(0.0, 0.05, 2), random.uniform(-0.01, 0.12))
            if random.uniform() < 0.3:
                closedness = 1.0 - closedness
            yield self._grasp() + offset, closedness

    # ----------------------------------------------------------------------------------------

    def _move(self, position: np.ndarray, closedness: float, seconds: float) -> None:
        quaternion = hand_rotation(self._yaw).as_quat()
        self._simulator.set_target(self._inside(position), quaternion, closedness)
        self._simulator.advance(seconds)

    def _inside(self, position: np.ndarray) -> np.ndarray:
        workspace = self._simulator.config.workspace
        return np.clip(position, workspace.lower, workspace.upper)

    def _wanted_yaw(self) -> float:
        """How the hand is turned in a script: as the box lies, or anyhow."""
        if not self._turning:
            return 0.0
        yaw = self._random.uniform(-MAX_YAW, MAX_YAW)
        if OBJECTS[self._object] == "box" and self._random.uniform() < 0.85:
            yaw = self._simulator.grasp_yaws()[self._object]
            yaw += self._random.normal(0.0, _YAW_NOISE)
        return float(np.clip(yaw, -MAX_YAW, MAX_YAW))

    def _reachable(self) -> bool:
        position = self._grasp()
        return bool(np.linalg.norm(position - self._inside(position)) < 0.02)

    def _grasp(self) -> np.ndarray:
        """Where the tool centre point [3] grasps the object as it lies."""
        place = self._simulator.object_positions()[self._object]
        return np.append(place[:2], GRASP_HEIGHTS[self._object])

    def _somewhere(self, height: float) -> np.ndarray:
        config = self._simulator.config
        return np.append(self._random.uniform(config.object_lower, config.object_upper), height)

    def _direction(self) -> np.ndarray:
        angle = self._random.uniform(-np.pi, np.pi)
        return np.array([np.cos(angle), np.sin(angle)])

    def _noise(self) -> np.ndarray:
        return self._random.normal(0.0, _WAYPOINT_NOISE)

    def _closing(self) -> float:
        return 1.0 if self._random.uniform() < 0.85 else self._random.uniform(0.5, 1.0)

    def _opening(self) -> float:
        return 0.0 if self._random.uniform() < 0.85 else self._random.uniform(0.0, 0.3)
