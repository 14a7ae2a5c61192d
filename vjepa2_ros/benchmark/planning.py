# SPDX-License-Identifier: Apache-2.0
"""Quality of plans against their cost: planners and budgets on one bundle of decisions.

The reference is the paper's search with its 800 candidates in 10 iterations on the same decision.
Decisions and episodes are spread over processes with one thread each, so that times are those of
one core.
"""

import hashlib
import inspect
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from vjepa2_ros import planning
from vjepa2_ros.benchmark.decisions import Decision, make_contacts, make_decisions
from vjepa2_ros.benchmark.device_timing import operations
from vjepa2_ros.evaluation.trial import play
from vjepa2_ros.interrupts import interrupts_blocked
from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.planning.objective import LatentDistance
from vjepa2_ros.planning.planner import Plan, Planner
from vjepa2_ros.planning.planners import make_planner_named
from vjepa2_ros.planning.receding_horizon import RecedingHorizon
from vjepa2_ros.settings.declaration import values_of
from vjepa2_ros.settings.planning import ActionSettings, GripperPolicy
from vjepa2_ros.settings.stack import StackSettings
from vjepa2_ros.simulation.simulator import Simulator, SimulatorConfig
from vjepa2_ros.tasks import load_task
from vjepa2_ros.tasks.task import TaskOptions, draw_episode, scene_seeds
from vjepa2_ros.world_model.poses import difference
from vjepa2_ros.world_model.world_model import WorldModel

REFERENCE = "cem"
REFERENCE_EVALUATIONS = 8000
BUDGETS = (16, 32, 64, 128, 200, 400, 800, 2000, 8000)
EPISODE_STEPS = 15


@dataclass(frozen=True)
class Setting:
    """What is planned, the same for all rows.

    Attributes:
        model: fingerprint, precision and device.
        seed, decisions: the bundle and its size.
        horizon: actions in a plan.
        gripper: mode of the gripper policy, "sampled" or "enumerated".
        cost: of the objective.
        context: frames that the model sees, 1 or 2.
        warm: each decision's plan starts from the rest of one made a step before, as in the loop.
        path_weight, variance_weight: of the objective, see `LatentDistance`.
        contacts: decisions of contact, after the others.
    """

    model: str
    seed: int
    decisions: int
    horizon: int = 1
    gripper: str = "sampled"
    cost: str = "l1"
    context: int = 1
    warm: bool = False
    path_weight: float = 0.0
    variance_weight: float = 0.0
    contacts: int = 0

    @property
    def action(self) -> ActionSettings:
        """What plans may consist of."""
        return ActionSettings(horizon=self.horizon, gripper=GripperPolicy(mode=self.gripper))

    @property
    def space(self) -> ActionSpace:
        """The same without a workspace, for single decisions."""
        return ActionSpace(horizon=self.horizon, gripper=GripperPolicy(mode=self.gripper))


@dataclass(frozen=True)
class Planned:
    """One planner's plan of one decision.

    Attributes:
        energy: of the plan.
        error: distance of the action to the best one within the bounds [m].
        gripper_is_right: whether the gripper opens, holds or closes as it should.
        seconds: time of the plan.
        succeeds: whether a plan of a decision of contact, carried out, leads to what the goal image
            shows; None for the others.
    """

    energy: float
    error: float
    gripper_is_right: bool
    seconds: float
    succeeds: bool | None = None


class Benchmark:
    """Runs planners on the bundle of a setting. A context manager that holds the processes.

    Args:
        load: creates the model in each process.
        setting: what is planned.
        stack: settings of the cell: workspace of the bundle, and limits of the closed loop.
        episodes: reach trials of each row, 0 for none.
        workers: processes; a single one is this one.
        kept: folder of the measurements; what it holds of the same setting is not measured again.
    """

    def __init__(
        self,
        load: Callable[[], WorldModel],
        setting: Setting,
        stack: StackSettings,
        episodes: int,
        workers: int,
        kept: Path,
    ) -> None:
        self.setting = setting
        self._stack = stack
        self._episodes = episodes
        self._kept = kept
        self._pool: ProcessPoolExecutor | None = None
        self._load = load
        if workers == 1:
            _prepare(load, setting, stack)
            return
        # A renderer does not survive a fork.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(
            workers, mp_context=context, initializer=_prepare, initargs=(load, setting, stack)
        )

    def __enter__(self) -> "Benchmark":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def row(self, planner: str, evaluations: int) -> dict:
        """Figures of one planner with one budget; lengths in m, times in s, None where left out."""
        plans = self._plans(self.setting, planner, evaluations)
        # The paper's search samples the gripper and begins from scratch.
        plain = replace(self.setting, gripper="sampled", warm=False)
        reference = self._plans(plain, REFERENCE, REFERENCE_EVALUATIONS)
        ratios = [mine.energy / best.energy for mine, best in zip(plans, reference, strict=True)]
        free = self.setting.decisions
        ratios, of_contact = ratios[:free], ratios[free:]
        plans, contacts = plans[:free], plans[free:]
        return {
            "planner": planner,
            "evaluations": evaluations,
            **asdict(self.setting),
            "energy_ratio_median": float(np.median(ratios)),
            "energy_ratio_p90": float(np.percentile(ratios, 90)),
            "energy_ratio_worst": max(ratios),
            "action_error_m_median": float(np.median([plan.error for plan in plans])),
            "gripper_right": float(np.mean([plan.gripper_is_right for plan in plans])),
            "seconds_median": float(np.median([plan.seconds for plan in plans])),
            "gflop": self._gflop * evaluations,
            "contact_energy_ratio_median": float(np.median(of_contact)) if contacts else None,
            "contact_energy_ratio_p90": float(np.percentile(of_contact, 90)) if contacts else None,
            "contact_success_rate": (
                float(np.mean([plan.succeeds for plan in contacts])) if contacts else None
            ),
            "reference_contact_success_rate": (
                float(np.mean([plan.succeeds for plan in reference[free:]])) if contacts else None
            ),
            **self._closed_loop(planner, evaluations),
        }

    @cached_property
    def _gflop(self) -> float:
        """Operations of one evaluation [10^9]."""
        model, setting = self._load(), self.setting
        latent = torch.zeros(model.latent_shape)
        objective = LatentDistance(
            model,
            latent,
            torch.zeros(7),
            latent,
            setting.cost,
            path_weight=setting.path_weight,
            variance_weight=setting.variance_weight,
        )
        return operations(partial(objective, torch.zeros(1, setting.horizon, 7))) / 1e9

    def _plans(self, setting: Setting, planner: str, evaluations: int) -> list[Planned]:
        work = partial(_plan, setting, planner, evaluations)
        numbers = range(setting.decisions + setting.contacts)
        return [Planned(*plan) for plan in self._measured(setting, "decisions", work, numbers)]

    def _closed_loop(self, planner: str, evaluations: int) -> dict:
        if not self._episodes:
            return {"success_rate": None, "final_distance_m_median": None}
        work = partial(_reach, self.setting, planner, evaluations)
        scenes = scene_seeds(self.setting.seed, self._episodes)
        ends = self._measured(self.setting, "episodes", work, scenes)
        return {
            "success_rate": float(np.mean([reached for _, reached in ends])),
            "final_distance_m_median": float(np.median([distance for distance, _ in ends])),
        }

    def _measured(
        self, setting: Setting, what: str, work: partial, items: Iterable[int]
    ) -> list[list]:
        """What `work` returns for each item, from the folder or measured and put there."""
        items = list(items)
        _, planner, evaluations = work.args
        module = type(make_planner_named(planner, evaluations)).__module__
        searches = sorted(Path(planning.__file__).parent.glob("*.py"))
        source = "".join(path.read_text() for path in searches)
        source += inspect.getsource(sys.modules[module])
        described = {
            **asdict(setting),
            "cell": values_of(self._stack.controller),
            "planner": planner,
            "source": hashlib.sha256(source.encode()).hexdigest(),
            "evaluations": evaluations,
            what: items,
        }
        text = json.dumps(described, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        path = self._kept / f"{planner}-{evaluations}-{what}-{digest}.json"
        if path.is_file():
            return json.loads(path.read_text())["results"]
        name = f"{planner} {evaluations}, {what}"
        with interrupts_blocked():
            jobs = (self._pool.map if self._pool is not None else map)(work, items)
        results = list(tqdm(jobs, desc=name, total=len(items), leave=False))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial_file = path.with_suffix(".partial")
        partial_file.write_text(json.dumps({**described, "results": results}))
        partial_file.replace(path)
        return results


# In the processes ---------------------------------------------------------------------------


@dataclass
class _Context:
    model: WorldModel
    decisions: list[Decision]
    simulator: Simulator
    stack: StackSettings


_context: _Context


def _prepare(load: Callable[[], WorldModel], setting: Setting, stack: StackSettings) -> None:
    global _context
    torch.set_num_threads(1)
    model = load()
    workspace = stack.simulator.workspace
    decisions = [
        *make_decisions(model, setting.seed, setting.decisions, workspace),
        *make_contacts(model, setting.seed, setting.contacts, workspace),
    ]
    _context = _Context(model, decisions, Simulator(SimulatorConfig(workspace=workspace)), stack)


def _plan(setting: Setting, planner: str, evaluations: int, number: int) -> tuple:
    """The fields of a `Planned`."""
    decision, search = _context.decisions[number], make_planner_named(planner, evaluations)
    plan, seconds = plan_decision(_context.model, setting, search, decision, number)
    return (
        plan.energy,
        decision.error(plan.actions, setting.space),
        decision.gripper_is_right(plan.actions),
        seconds,
        decision.succeeds(plan.actions, _context.simulator) if decision.contact else None,
    )


def plan_decision(
    model: WorldModel, setting: Setting, search: Planner, decision: Decision, seed: int
) -> tuple[Plan, float]:
    """A plan of a decision and the time it took [s], that of a plan one step before left out."""
    every_step = setting.path_weight > 0 or setting.variance_weight > 0
    chunk = model.sequences_within(None, setting.horizon, setting.context, every_step)
    space = setting.space
    if decision.contact and model.predictor.config.commanded_gripper:
        space = replace(space, closedness=float(decision.state[6]))
    rating = partial(
        LatentDistance,
        model,
        cost=setting.cost,
        chunk=chunk,
        path_weight=setting.path_weight,
        variance_weight=setting.variance_weight,
    )
    previous = None
    if setting.warm:
        before = rating(decision.latent_before, decision.state_before, decision.goal)
        generator = torch.Generator().manual_seed(seed + 1_000_000)
        earlier = search.plan(before, space, generator).actions
        previous = torch.cat([earlier[1:], torch.zeros(1, 7)])
    past = None
    if setting.context == 2:
        way = difference(decision.state_before, decision.state)
        past = model.prefill(decision.latent_before[None], decision.state_before[None], way[None])
    objective = rating(decision.latent, decision.state, decision.goal, past=past)
    generator = torch.Generator().manual_seed(seed)
    started = time.perf_counter()
    plan = search.plan(objective, space, generator, previous)
    return plan, time.perf_counter() - started


def _reach(setting: Setting, planner: str, evaluations: int, scene: int) -> tuple[float, bool]:
    """Final distance [m] of one episode, and whether it counts as reached."""
    settings = _context.stack
    task = load_task("reach")
    episode = draw_episode(task, _context.simulator, scene, TaskOptions())
    goal = _context.model.encode(episode.subgoals[0].image)[None]
    loop = RecedingHorizon(
        make_planner_named(planner, evaluations),
        _context.model,
        goal,
        setting.action,
        replace(
            settings.planner.loop,
            context=setting.context,
            cost=setting.cost,
            path_weight=setting.path_weight,
            variance_weight=setting.variance_weight,
        ),
        settings.planner.execution.cell.workspace,
        [EPISODE_STEPS],
    )
    trial = play(_context.simulator, task, episode, loop, settings)
    return trial.distance, trial.success
