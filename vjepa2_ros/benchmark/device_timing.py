# SPDX-License-Identifier: Apache-2.0
"""Time, operations and host synchronisations of work on a device."""

import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

MATRIX_SIDES = {"cuda": (4096, 8192), "cpu": (512,)}
"""Sides of the square matrix products that the rate of the machine is measured with."""
PRODUCTS = {"cuda": 20, "cpu": 1}
"""Matrix products in one measurement: many on a GPU, so that their launch takes no share of it."""


def median_seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median time of some work [s] until the device has done it; one call before is not counted."""
    work()
    times = []
    for _ in range(repeats):
        _wait_for(device)
        started = time.perf_counter()
        work()
        _wait_for(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a large matrix product in this precision; the best of the sides."""
    rates, products = [], PRODUCTS[device.type]
    for side in MATRIX_SIDES[device.type]:
        left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        work = partial(_multiply, left, right, products)
        rates.append(2 * side**3 * products / median_seconds(work, device, repeats=3))
    return max(rates)


def operations(work: Callable[[], object]) -> int:
    """Floating-point operations of some work, attention among them."""
    # Not all fused kernels are counted; attention as separate products is.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def host_synchronisations(work: Callable[[], object], device: torch.device) -> int | None:
    """How often the host waits for the device in some work, after one call that is not counted.

    Copies between host and device count. None on a device that does not tell.
    """
    if device.type != "cuda":
        return None
    work()
    torch.cuda.synchronize(device)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(warning.message) for warning in caught)


def _multiply(left: Tensor, right: Tensor, times: int) -> None:
    for _ in range(times):
        torch.mm(left, right)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
