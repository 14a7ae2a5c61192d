# SPDX-License-Identifier: Apache-2.0
"""Whether the world model loads, and plans in time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from vjepa2_ros.preflight.finding import Finding, fail, ok, warn
from vjepa2_ros.settings.planning import PlannerNodeSettings


@dataclass(frozen=True)
class ModelReading:
    """A world model on this computer.

    Attributes:
        name: of the model.
        device: of its weights.
        dtype: of its products.
        free_memory, memory: of the GPU [bytes]; 0 on a CPU.
        load_seconds: to load it.
        encode_seconds: for one image.
        plan_seconds: for one plan.
    """

    name: str
    device: str
    dtype: str
    free_memory: int
    memory: int
    load_seconds: float
    encode_seconds: float
    plan_seconds: float


def read_model(
    _: Callable[[float], None], settings: PlannerNodeSettings
) -> ModelReading | str:
    """Load the model, encode and plan once each, after one for warming up.

    Returns:
        What was measured, or why it cannot be.
    """
    import numpy as np
    import torch

    from vjepa2_ros.planning.planners import make_planner
    from vjepa2_ros.planning.receding_horizon import make_loop
    from vjepa2_ros.world_model.checkpoint import CheckpointError, open_world_model

    begin = time.perf_counter()
    try:
        model = open_world_model(settings.model)
        loaded = time.perf_counter()
        pictures = np.random.default_rng(0).integers(0, 255, (2, 256, 256, 3), np.uint8)
        goal = model.encode(pictures[1]).cpu()
        times = []
        for _repeat in range(2):
            start = time.perf_counter()
            latent = model.encode(pictures[0]).cpu()
            encoded = time.perf_counter()
            planner = make_planner(settings.search)
            loop = make_loop(settings, planner, model, goal[None], gripper=["hold"])
            loop.step(latent, torch.tensor([0.5, 0.0, 0.2, torch.pi, 0.0, 0.0, 0.0]))
            times = [encoded - start, time.perf_counter() - encoded]
        free, memory, device = 0, 0, "CPU"
        if model.device.type == "cuda":
            free, memory = torch.cuda.mem_get_info(model.device)
            device = torch.cuda.get_device_name(model.device)
    except (CheckpointError, ValueError, RuntimeError) as error:  # torch's are RuntimeErrors
        return str(error)
    dtype = str(model.compute_dtype).removeprefix("torch.")
    return ModelReading(model.name, device, dtype, free, memory, loaded - begin, *times)


def model_findings(reading: ModelReading | str, max_age: float) -> list[Finding]:
    """Judge device and times.

    Args:
        reading: or why there is none.
        max_age: `max_observation_age` of the configuration [s].
    """
    if isinstance(reading, str):
        return [fail("model", reading, "see the text; `--checkpoint` names another model")]
    if reading.memory:
        text = f"{reading.device}, {reading.free_memory / 2**30:.1f} of "
        device = ok("device", f"{text}{reading.memory / 2**30:.1f} GiB free, model loaded")
    else:
        device = ok("device", f"{reading.device}: no GPU is used", "enough for the shipped model")
    loaded = f"{reading.name}, {reading.dtype}, loaded in {reading.load_seconds:.1f} s"
    seconds = reading.encode_seconds + reading.plan_seconds
    text = (
        f"{1e3 * reading.encode_seconds:.0f} ms for an image and "
        f"{1e3 * reading.plan_seconds:.0f} ms for a plan; max_observation_age is {max_age:g} s"
    )
    advice = "raise max_observation_age, lower the evaluations of the search, or use a GPU"
    findings = [device, ok("model", loaded)]
    if seconds > max_age:
        return [*findings, fail("plan in time", text, advice)]
    if seconds > 0.5 * max_age:
        return [*findings, warn("plan in time", text, advice)]
    return [*findings, ok("plan in time", text)]
