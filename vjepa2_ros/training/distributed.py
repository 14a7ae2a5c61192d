# SPDX-License-Identifier: Apache-2.0
"""Training in several processes that `torchrun` started; in a single one all of this does nothing.

Every process draws the same batch, computes the losses of its equal share of it, and takes the same
step with the gradients averaged over the processes. Since losses are means over the batch, the mean
over equal shares is the mean over the batch, and the trained weights are those of a single process
within rounding. Only what is no such mean differs, the ratio `relative_to_copy` in the history:
there it is the mean of the shares' ratios. Whatever is written, the first process writes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, distributed
from torch.nn.utils import parameters_to_vector, vector_to_parameters

Result = TypeVar("Result")
Batch = TypeVar("Batch", np.ndarray, Tensor)

_LONGEST_WAIT = timedelta(days=7)
"""The others wait while the first process makes a recording, which may take hours."""


class FirstProcessError(RuntimeError):
    """The first process failed at what the others waited for; it says why."""


@contextmanager
def processes(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that `torchrun` started, if it did, until the end of the context.

    Args:
        device: chosen for all of them.

    Yields:
        The device of this process: on CUDA, each process of a machine has a GPU of its own.

    Raises:
        ValueError: the device names one GPU, or the machine has fewer GPUs than processes.
    """
    if not distributed.is_torchelastic_launched():
        yield device
        return
    if device.type == "cuda":
        device = _own_gpu(device)
        torch.cuda.set_device(device)
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=_LONGEST_WAIT
    )
    try:
        yield device
    finally:
        distributed.destroy_process_group()


def _own_gpu(device: torch.device) -> torch.device:
    local, here = (int(os.environ[name]) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    if device.index is not None and here > 1:
        raise ValueError(f"{here} processes cannot share {device}: use --device cuda")
    if here > torch.cuda.device_count():
        raise ValueError(
            f"{here} processes for {torch.cuda.device_count()} GPUs: start at most one for each"
        )
    return torch.device("cuda", local) if device.index is None else device


def process_count() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_first() -> bool:
    """Whether this process is the one that writes; a single process is."""
    return process_number() == 0


def process_number() -> int:
    """Number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def by_first(work: Callable[[], Result]) -> Result:
    """Let the first process do something while the others wait for it.

    Args:
        work: called in the first process only; its result is sent to the others as a pickle.

    Returns:
        Its result, in every process.

    Raises:
        FirstProcessError: in the other processes, when `work` raised in the first one.
    """
    if process_count() == 1:
        return work()
    outcome: list[tuple[Result] | None] = [None]
    try:
        if is_first():
            outcome = [(work(),)]
    finally:
        distributed.broadcast_object_list(outcome, src=0)
    if outcome[0] is None:
        raise FirstProcessError("the first process failed and says why")
    return outcome[0][0]


def share(batch: Batch) -> Batch:
    """The part of a batch, along its first axis, that is this process's.

    Args:
        batch: array or tensor [B, ...], B divisible by the number of processes.
    """
    size = len(batch) // process_count()
    return batch[process_number() * size : (process_number() + 1) * size]


def average(tensors: Sequence[Tensor]) -> None:
    """Replace tensors of one dtype and device by their means over the processes, in place."""
    if process_count() == 1:
        return
    vector = parameters_to_vector(tensors)
    distributed.all_reduce(vector)
    vector_to_parameters(vector / process_count(), tensors)
