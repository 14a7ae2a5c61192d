# SPDX-License-Identifier: Apache-2.0
"""A task: move the hand from anywhere to the same place, high above the middle of the table.

Evaluate it in closed loop; all options of `vjepa2-ros evaluate` apply:

    .venv/bin/python examples/home_task.py --episodes 5

A task is a module with `scene_seeds` and `run_episodes`, registered under its name in `TASKS`. One
inside the package is an entry in vjepa2_ros/evaluation/tasks.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from vjepa2_ros.cli import evaluate
from vjepa2_ros.evaluation.reach import ReachEpisode, ReachResult, run_episode, scene_seeds
from vjepa2_ros.evaluation.tasks import TASKS, Task
from vjepa2_ros.planning.receding_horizon import RecedingHorizon
from vjepa2_ros.settings.stack import StackSettings
from vjepa2_ros.simulation.simulator import DOWN, Simulator, SimulatorConfig

__all__ = ["run_episodes", "scene_seeds"]

HOME = np.array([0.50, 0.0, 0.30])
"""Goal of the tool centre point [m], base frame."""


def episode(seed: int, simulator: Simulator, image_size: int) -> ReachEpisode:
    """The trial of a scene; leaves the simulator at its start."""
    simulator.reset(seed)
    start = simulator.state()
    simulator.place(HOME, DOWN, 0.0)
    goal, image = simulator.state(), simulator.render(image_size)
    simulator.reset(seed)
    return ReachEpisode(seed, start, goal, image)


def run_episodes(
    seeds: Sequence[int],
    make_loop: Callable[[np.ndarray], RecedingHorizon],
    settings: StackSettings,
) -> Iterator[ReachResult]:
    """Play the trials of some scenes in order.

    Args:
        seeds: of the scenes.
        make_loop: returns a new loop for a goal image uint8 RGB [size, size, 3].
        settings: of the nodes.
    """
    simulator = Simulator(SimulatorConfig(workspace=settings.simulator.workspace))
    for seed in seeds:
        trial = episode(seed, simulator, settings.simulator.image_size)
        yield run_episode(simulator, trial, make_loop(trial.goal_image), settings)


def main(arguments: Sequence[str]) -> int:
    """Evaluate the task; returns the exit code."""
    TASKS["home"] = Task("move the hand to a place above the middle of the table", "home_task")
    parser = argparse.ArgumentParser(description=__doc__)
    evaluate.add_arguments(parser)
    return evaluate.run(parser.parse_args(["--task", "home", *arguments]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
