# SPDX-License-Identifier: Apache-2.0
"""What a plan is worth against what it costs: planners and budgets on one bundle of decisions.

The yardstick is the paper's search with its 800 candidates in 10 iterations on the same decision.
Decisions and episodes are spread over processes with one thread each, so that times are those of
one core.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from vjepa2_ros.benchmark.decisions import Decision, make_decisions
from vjepa2_ros.evaluation.reach import ReachEpisode, run_episode, scene_seeds
from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.planning.objective import LatentDistance
from vjepa2_ros.planning.planners import make_planner
from vjepa2_ros.planning.receding_horizon import RecedingHorizon, RecedingHorizonSettings
from vjepa2_ros.robot.safety import MotionLimits
from vjepa2_ros.simulation.simulator import Simulator
from vjepa2_ros.world_model.world_model import WorldModel

REFERENCE = "cem"
REFERENCE_EVALUATIONS = 8000
BUDGETS = (16, 32, 64, 128, 200, 400, 800, 2000, 8000)
EPISODE_STEPS = 15


@dataclass(frozen=True)
class Task:
    """What all rows have in common.

    load: makes the model in each process. seed: of the bundle. decisions, episodes: how many;
    no episodes leave the closed loop out. space: with the horizon. cost, chunk: of the objective.
    """

    load: Callable[[], WorldModel]
    seed: int
    decisions: int
    episodes: int
    space: ActionSpace
    cost: str
    chunk: int | None


@dataclass(frozen=True)
class Planned:
    """One planner's plan of one decision."""

    energy: float
    error: float
    gripper_is_right: bool
    seconds: float


class Benchmark:
    """Runs planners on the bundle of a task. A context manager that holds the processes."""

    def __init__(self, task: Task, workers: int) -> None:
        self.task = task
        # A renderer does not survive a fork.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(
            workers, mp_context=context, initializer=_prepare, initargs=(task,)
        )
        self._reference: list[Planned] | None = None

    def __enter__(self) -> "Benchmark":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def row(self, planner: str, evaluations: int) -> dict:
        """Figures of one planner with one budget; lengths in m, times in s, None where left out."""
        plans = self._plans(planner, evaluations)
        reference = self._reference_plans(plans, planner, evaluations)
        ratios = [mine.energy / best.energy for mine, best in zip(plans, reference, strict=True)]
        return {
            "planner": planner,
            "evaluations": evaluations,
            "horizon": self.task.space.horizon,
            "energy_ratio_median": float(np.median(ratios)),
            "energy_ratio_p90": float(np.percentile(ratios, 90)),
            "energy_ratio_worst": max(ratios),
            "action_error_m_median": float(np.median([plan.error for plan in plans])),
            "gripper_right": float(np.mean([plan.gripper_is_right for plan in plans])),
            "seconds_median": float(np.median([plan.seconds for plan in plans])),
            **self._closed_loop(planner, evaluations),
        }

    def _plans(self, planner: str, evaluations: int) -> list[Planned]:
        work = partial(_plan, planner, evaluations)
        name = f"{planner} {evaluations}, decisions"
        return list(self._spread(work, range(self.task.decisions), name))

    def _reference_plans(
        self, plans: list[Planned], planner: str, evaluations: int
    ) -> list[Planned]:
        if self._reference is None:
            is_reference = (planner, evaluations) == (REFERENCE, REFERENCE_EVALUATIONS)
            self._reference = (
                plans if is_reference else self._plans(REFERENCE, REFERENCE_EVALUATIONS)
            )
        return self._reference

    def _closed_loop(self, planner: str, evaluations: int) -> dict:
        if not self.task.episodes:
            return {"success_rate": None, "final_distance_m_median": None}
        work = partial(_reach, planner, evaluations)
        scenes = scene_seeds(self.task.seed, self.task.episodes)
        ends = list(self._spread(work, scenes, f"{planner} {evaluations}, episodes"))
        return {
            "success_rate": float(np.mean([reached for _, reached in ends])),
            "final_distance_m_median": float(np.median([distance for distance, _ in ends])),
        }

    def _spread(self, work: Callable, items: Iterable[int], name: str) -> Iterator:
        items = list(items)
        return tqdm(self._pool.map(work, items), desc=name, total=len(items), leave=False)


# In the processes ---------------------------------------------------------------------------


@dataclass
class _Context:
    task: Task
    model: WorldModel
    decisions: list[Decision]
    simulator: Simulator


_context: _Context


def _prepare(task: Task) -> None:
    global _context
    torch.set_num_threads(1)
    model = task.load()
    decisions = make_decisions(model, task.seed, task.decisions)
    _context = _Context(task, model, decisions, Simulator())


def _plan(planner: str, evaluations: int, number: int) -> Planned:
    task, decision = _context.task, _context.decisions[number]
    objective = LatentDistance(
        _context.model, decision.latent, decision.state, decision.goal, task.cost, task.chunk
    )
    generator = torch.Generator().manual_seed(number)
    search = make_planner(planner, evaluations)
    started = time.perf_counter()
    plan = search.plan(objective, task.space, generator)
    seconds = time.perf_counter() - started
    return Planned(
        plan.energy,
        decision.error(plan.actions, task.space),
        decision.gripper_is_right(plan.actions),
        seconds,
    )


def _reach(planner: str, evaluations: int, scene: int) -> tuple[float, bool]:
    """Final distance [m] of one episode, and whether it counts as reached."""
    task, limits = _context.task, MotionLimits()
    episode = ReachEpisode.sample(scene, _context.simulator)
    settings = RecedingHorizonSettings(
        [EPISODE_STEPS],
        task.space,
        (limits.workspace_lower, limits.workspace_upper),
        cost=task.cost,
        chunk=task.chunk,
        patience=2,
    )
    goal = _context.model.encode(episode.goal_image)[None]
    loop = RecedingHorizon(make_planner(planner, evaluations), _context.model, goal, settings)
    result = run_episode(_context.simulator, episode, loop, limits)
    return result.distances[-1], result.reached
