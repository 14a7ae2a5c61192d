# SPDX-License-Identifier: Apache-2.0
"""What `bench gpu` measures in a process of its own: machine, parity, evaluations, plans.

Each measurement is a generator of rows, so that those before a failure are kept.
"""

import platform
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from vjepa2_ros.benchmark.acceleration import NotOnThisDevice, captured, compiled
from vjepa2_ros.benchmark.device_timing import (
    host_synchronisations,
    matrix_rate,
    median_seconds,
    operations,
)
from vjepa2_ros.benchmark.model import VIT_GIANT, published_size
from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.planning.objective import LatentDistance
from vjepa2_ros.planning.planners import make_planner_named
from vjepa2_ros.settings.planning import ActionSettings
from vjepa2_ros.share import model_path
from vjepa2_ros.world_model.checkpoint import load_world_model
from vjepa2_ros.world_model.encoder import Encoder, encoder_config
from vjepa2_ros.world_model.predictor import ActionConditionedPredictor, PredictorConfig
from vjepa2_ros.world_model.preprocessing import preprocess
from vjepa2_ros.world_model.world_model import WorldModel

Row: TypeAlias = dict[str, Any]
OnDevice: TypeAlias = Callable[[Tensor], Tensor]

WAYS = ("eager", "compiled", "captured", "compiled-captured")
"""Ways to run the networks; `eager` is what the nodes do."""
MAX_TRANSLATION = ActionSettings().max_translation
"""Bound of random actions on each axis [m]; the paper's."""


@dataclass(frozen=True)
class Size:
    """What is measured.

    Attributes:
        name: "published" or "tiny".
        counts: numbers of evaluations.
        at_once: evaluations at once, where all have to be of one shape; divides larger counts.
        plans: planners and numbers of evaluations of whole plans.
        repeats: measurements of each time; the median is given.
        aims_ms: longest time [ms] aimed at on an H200, by number of evaluations.
        aim_share: least share of the rate of matrix products aimed at on an H200.
    """

    name: str
    counts: tuple[int, ...]
    at_once: int
    plans: tuple[tuple[str, int], ...]
    repeats: int
    aims_ms: dict[int, float]
    aim_share: float | None


SIZES = {
    "published": Size(
        "published",
        counts=(1, 32, 200, 8000),
        at_once=500,
        plans=(("latent_quadratic", 32), ("latent_quadratic", 200), ("cem", 8000)),
        repeats=3,
        aims_ms={200: 100.0, 8000: 3000.0},
        aim_share=0.6,
    ),
    "tiny": Size(
        "tiny",
        counts=(1, 4, 8, 32),
        at_once=8,
        plans=(("latent_quadratic", 16), ("cem", 40)),
        repeats=2,
        aims_ms={},
        aim_share=None,
    ),
}


def random_model(size: Size, device: torch.device) -> WorldModel:
    """A model with random weights in bfloat16: of the published geometry, or of 64 px."""
    torch.manual_seed(0)
    if size.name == "published":
        return published_size(torch.bfloat16, device)
    fields = {"crop_size": 64, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3}
    predictor = PredictorConfig((64, 64), 16, 48, 48, depth=3, num_heads=2)
    with torch.device(device):
        model = WorldModel(
            Encoder(encoder_config({**VIT_GIANT, **fields})).eval(),
            ActionConditionedPredictor(predictor).eval(),
            name="tiny, random",
            compute_dtype=torch.bfloat16,
        )
    model.round_weights()
    return model


def random_image() -> np.ndarray:
    """An image of a camera, uint8 RGB [480, 640, 3]."""
    return np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)


def random_actions(count: int) -> Tensor:
    """Single actions [count, 1, 7] on the CPU that move, but do not turn or grasp."""
    actions = torch.zeros(count, 1, 7)
    generator = torch.Generator().manual_seed(0)
    actions[..., :3] = MAX_TRANSLATION * (2 * torch.rand(count, 1, 3, generator=generator) - 1)
    return actions


def _attempt(what: str, measure: Callable[[], Row]) -> Row:
    """The row of one measurement, or one that says why there is none."""
    try:
        return {"what": what} | measure()
    except NotOnThisDevice as error:
        return {"what": what, "note": f"not on this device: {error}"}
    except Exception as error:  # the other rows are still wanted after any error
        traceback.print_exc()
        return {"what": what, "failed": short(error)}
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def short(error: BaseException) -> str:
    """Kind and first line of an error."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first[:300]}"


# Sections -----------------------------------------------------------------------------------


def machine(device: torch.device, size: Size) -> Iterator[Row]:
    """Device, software, and the rate of matrix products."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        yield {"what": "device", "value": properties.name}
        yield {"what": "memory [GiB]", "value": properties.total_memory / 2**30}
        yield {"what": "compute capability", "value": f"{properties.major}.{properties.minor}"}
        yield {"what": "CUDA", "value": torch.version.cuda}
    else:
        yield {"what": "device", "value": f"CPU, {torch.get_num_threads()} thread(s)"}
    yield {"what": "PyTorch", "value": torch.__version__}
    yield {"what": "Python", "value": platform.python_version()}
    for dtype in (torch.bfloat16, torch.float32):
        name = str(dtype).removeprefix("torch.")
        yield _attempt(
            f"matrix products, {name} [TFLOP/s]",
            lambda: {"value": matrix_rate(device, dtype) / 1e12},  # noqa: B023
        )


def parity(device: torch.device, size: Size) -> Iterator[Row]:
    """The shipped model on the device against float32 on the CPU."""
    path = model_path("tabletop")
    reference = load_world_model(path, "cpu", "float32")
    state = torch.tensor([0.4, 0.0, 0.3, torch.pi, 0.0, 0.0, 0.0])
    image, actions = random_image(), random_actions(256)
    latent = reference.encode(image)
    # A goal that an action leads to, so that the energies have a minimum to agree on.
    goal = reference.rollout(latent, state, torch.tensor([[[0.05, -0.03, 0.04, 0, 0, 0, 0]]]))[0]
    predicted = reference.rollout(latent, state, actions[:16])
    energies = LatentDistance(reference, latent, state, goal)(actions)
    for dtype in ("float32", "bfloat16"):
        model = load_world_model(path, str(device), dtype)

        def compare(actual: Tensor, expected: Tensor) -> Row:
            error = float((actual.cpu().double() - expected.double()).abs().max())
            return {"largest_error": error, "largest_value": float(expected.abs().max())}

        def compare_energies(model: WorldModel = model) -> Row:
            found = LatentDistance(model, latent, state, goal)(actions)
            ranks = float(spearmanr(found.double(), energies.double())[0])
            return compare(found, energies) | {"rank_correlation": ranks}

        yield _attempt(
            f"latents of an image, {dtype}",
            lambda: compare(model.encode(image), latent),  # noqa: B023
        )
        yield _attempt(
            f"predicted latents, {dtype}",
            lambda: compare(model.rollout(latent, state, actions[:16]), predicted),  # noqa: B023
        )
        yield _attempt(f"energies of 256 actions, {dtype}", compare_energies)


def evaluations(device: torch.device, size: Size, way: str) -> Iterator[Row]:
    """Encoding and evaluations in one of `WAYS`, with random weights in bfloat16."""
    bench = _Bench(random_model(size, device), size, way)
    if way == "eager":
        yield _attempt("camera image to latent, as encoder_node", bench.image_to_latent)
    yield _attempt("encode one image", bench.encode)
    for count in size.counts:
        name = "evaluation" if count == 1 else "evaluations"
        yield _attempt(f"{count} {name}", partial(bench.evaluate, count))


def plans(device: torch.device, size: Size) -> Iterator[Row]:
    """Whole plans, eager: time, rounds and host synchronisations."""
    model = random_model(size, device)
    objective = _CountedObjective(model)
    actions = random_actions(size.counts[1])
    on_device = actions.to(device)
    yield _attempt(
        "one round, from actions on the device to energies on the device",
        lambda: {
            "rounds": 1,
            "host_synchronisations": host_synchronisations(
                lambda: objective.energies(objective.differences(on_device)), device
            ),
            "aim": "0",
        },
    )
    yield _attempt(
        "one round, from actions on the host to energies on the host",
        lambda: {
            "rounds": 1,
            "host_synchronisations": host_synchronisations(lambda: objective(actions), device),
        },
    )
    for name, count in size.plans:
        yield _attempt(f"plan: {name}, {count} evaluations", partial(_plan, objective, name, count))


class _Bench:
    """Times of one model run in one way."""

    def __init__(self, model: WorldModel, size: Size, way: str):
        self._eager, self._size, self._way = model, size, way
        self._model = compiled(model) if "compiled" in way else model
        self._device = model.device
        self._rate = matrix_rate(model.device, model.compute_dtype)
        self._image = random_image()
        frame = preprocess(self._image, model.encoder.size, model.crop_aspect)
        self._frames = frame.unsqueeze(0).to(model.device)
        self._latent = model.encode(self._image)
        self._state = torch.zeros(7, device=model.device)
        # Energies are random; where the goal is does not change what they cost.
        self._goal = self._latent.flip(0)

    def image_to_latent(self) -> Row:
        """From a camera image, preprocessing on the CPU included."""
        return self._measured(lambda: self._model.encode(self._image), 1, None)

    def encode(self) -> Row:
        """The encoder on one preprocessed frame that is on the device."""
        eager = partial(_latents, self._eager)
        run: OnDevice = partial(_latents, self._model)
        if "captured" in self._way:
            run = captured(run, self._frames)
        row = self._measured(lambda: run(self._frames), 1, operations(lambda: eager(self._frames)))
        return row | self._difference(run(self._frames), eager(self._frames))

    def evaluate(self, count: int) -> Row:
        """This many candidates, from actions on the host to energies on the host."""
        actions = random_actions(count)
        if self._way == "eager":  # as the planner does
            at_once = min(count, self._model.sequences_within(None, 1))
        else:
            at_once = min(count, self._size.at_once)
        energies: OnDevice = partial(_energies, self._objective(self._model))
        if "captured" in self._way:
            energies = captured(energies, actions[:at_once].to(self._device))

        def run() -> Tensor:
            parts = actions.to(self._device).split(at_once)
            # Copies, because a captured function overwrites its result.
            return torch.cat([energies(part).clone() for part in parts]).cpu()

        row = {"at_once": at_once} | self._measured(run, count, self._operations(count))
        if count <= self._size.at_once:
            row |= self._difference(run(), self._objective(self._eager)(actions))
        return row | self._judged(count, row)

    def _objective(self, model: WorldModel) -> LatentDistance:
        return LatentDistance(model, self._latent, self._state, self._goal)

    def _operations(self, count: int) -> int:
        """Operations of this many evaluations: what all share is done once."""
        objective = self._objective(self._eager)
        one, two = (operations(lambda: objective(random_actions(n))) for n in (1, 2))  # noqa: B023
        return one + (count - 1) * (two - one)

    def _measured(self, run: Callable[[], Tensor], count: int, work: int | None) -> Row:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        seconds = median_seconds(run, self._device, self._size.repeats)
        row: Row = {"time_ms": 1e3 * seconds, "time_each_ms": 1e3 * seconds / count}
        if work is not None:
            row |= {
                "gflop_each": work / count / 1e9,
                "tflops": work / seconds / 1e12,
                "share": work / seconds / self._rate,
            }
        if self._device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self._device)
            row["peak_memory_gib"] = peak / 2**30
        return row

    def _difference(self, found: Tensor, eager: Tensor) -> Row:
        if self._way == "eager":
            return {}
        return {"difference_from_eager": float((found.float() - eager.float()).abs().max())}

    def _judged(self, count: int, row: Row) -> Row:
        """The aims on an H200 and whether they are met."""
        if count not in self._size.aims_ms:
            return {}
        most, least = self._size.aims_ms[count], self._size.aim_share or 0.0
        met = row["time_ms"] <= most and row["share"] >= least
        return {"aim": f"≤ {most:.0f} ms, ≥ {least:.0%}", "aim_met": "yes" if met else "no"}


def _latents(model: WorldModel, frames: Tensor) -> Tensor:
    """Latents of frames [1, 3, H, W] on the device, in the precision of the model."""
    rounded = model.compute_dtype != torch.float32
    with torch.no_grad(), torch.autocast(frames.device.type, model.compute_dtype, enabled=rounded):
        return model.encoder(frames)


def _energies(objective: LatentDistance, actions: Tensor) -> Tensor:
    """Energies [S] on the device of actions [S, 1, 7] on the device."""
    return objective.energies(objective.differences(actions))


class _CountedObjective:
    """A `LatentObjective` that counts its rounds, with chunks as the planner chooses them."""

    def __init__(self, model: WorldModel):
        latent = model.encode(random_image())
        chunk = model.sequences_within(None, horizon=1)
        state = torch.zeros(7, device=model.device)
        self._objective = LatentDistance(model, latent, state, latent.flip(0), chunk=chunk)
        self.device = model.device
        self.rounds = 0

    def __call__(self, actions: Tensor) -> Tensor:
        self.rounds += 1
        return self._objective(actions)

    def differences(self, actions: Tensor) -> Tensor:
        self.rounds += 1
        return self._objective.differences(actions)

    def energies(self, differences: Tensor) -> Tensor:
        return self._objective.energies(differences)


def _plan(objective: _CountedObjective, name: str, count: int) -> Row:
    planner, space = make_planner_named(name, count), ActionSpace()

    def run() -> None:
        objective.rounds = 0
        planner.plan(objective, space, torch.Generator().manual_seed(0))

    seconds = median_seconds(run, objective.device, repeats=1)
    waits = host_synchronisations(run, objective.device)
    row = {"time_ms": 1e3 * seconds, "rounds": objective.rounds, "host_synchronisations": waits}
    return row | ({} if waits is None else {"per_round": waits / objective.rounds})


MEASUREMENTS: dict[str, Callable[[torch.device, Size], Iterator[Row]]] = {
    "machine": machine,
    "parity": parity,
    **{way: partial(evaluations, way=way) for way in WAYS},
    "plans": plans,
}
"""By the name of the section that they make up."""
