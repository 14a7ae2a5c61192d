# SPDX-License-Identifier: Apache-2.0
"""Parts of a checkpoint: the registry of optional ones, and how each part gets its weights.

A checkpoint always holds an `encoder` and a `predictor`. Further modules that work on their
latents may travel with them as optional parts, each with its own configuration and weights.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from vjepa2_ros.world_model.decoder import PatchDecoder
from vjepa2_ros.world_model.success import SuccessProbe
from vjepa2_ros.world_model.uncertainty import Uncertainty
from vjepa2_ros.world_model.validation import CheckpointError, first_line

Part = TypeVar("Part", bound=nn.Module)

REQUIRED_PARTS = ("encoder", "predictor")

UNCERTAINTY = "uncertainty"
"""The part that tells how far predictions may be off."""
SUCCESS = "success"
"""The part that tells whether a sub-goal is reached."""
ALWAYS_LOADED = (UNCERTAINTY, SUCCESS)
"""Parts that are loaded wherever a checkpoint holds them: planning may need them."""

PARTS: dict[str, Callable[[dict], nn.Module]] = {
    "decoder": PatchDecoder,
    UNCERTAINTY: Uncertainty,
    SUCCESS: SuccessProbe,
}
"""Optional parts by name: what builds the module from its configuration.

The module has the configuration, plain JSON values, as its attribute `config`. All of its tensors
are in its `state_dict`: it is built without memory and then gets the weights of the file. The
builder raises ValueError for a configuration that it cannot use.
"""

_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
# The encoder has some parameters while it is built that it does not keep.
_TEMPORARY_PARAMETERS = 16
_LISTED = 6


def build_part(
    name: str, build: Callable[[], Part], weights: Mapping[str, Tensor], source: str
) -> Part:
    """Build a module without memory, as a frame for weights that are loaded afterwards.

    Args:
        name: of the part.
        build: makes the module.
        weights: the part's, of which only the number is used.
        source: the checkpoint, for messages.

    Raises:
        CheckpointError: `build` fails, or makes more parameters than there are weights.
    """
    try:
        with torch.device("meta"), _at_most(len(weights) + _TEMPORARY_PARAMETERS):
            return build()
    except Exception as error:  # libraries raise anything at all on values out of range
        raise CheckpointError(
            f"{source} describes no {name} that works: {first_line(error)}"
        ) from error


def assign_weights(
    name: str, module: nn.Module, weights: Mapping[str, Tensor], source: str
) -> None:
    """Make float32 `weights` those of a module from `build_part`, without a copy where possible.

    Raises:
        CheckpointError: names, shapes or dtypes do not fit, or values are not finite.
    """
    _check_fit(name, module.state_dict(), weights, source)
    loaded = {key: weight.float() for key, weight in weights.items()}
    infinite = [key for key, weight in loaded.items() if not _is_finite(weight)]
    if infinite:
        raise CheckpointError(
            f"{source}: {name} weights hold NaN or infinity: {_listed(infinite)}; the training "
            "diverged or the file is damaged"
        )
    module.load_state_dict(loaded, assign=True)


def _check_fit(
    name: str, wanted: Mapping[str, Tensor], weights: Mapping[str, Tensor], source: str
) -> None:
    common = sorted(set(wanted) & set(weights))
    faults = {
        "missing": sorted(set(wanted) - set(weights)),
        "unexpected": sorted(set(weights) - set(wanted)),
        "of another shape": [
            f"{key} {list(weights[key].shape)} instead of {list(wanted[key].shape)}"
            for key in common
            if weights[key].shape != wanted[key].shape
        ],
        "of another type than floating point": [
            f"{key} {str(weights[key].dtype).removeprefix('torch.')}"
            for key in common
            if weights[key].dtype not in _DTYPES
        ],
    }
    found = [f"{len(keys)} {fault}: {_listed(keys)}" for fault, keys in faults.items() if keys]
    if found:
        raise CheckpointError(f"{source}: {name} weights do not fit; {'; '.join(found)}")
    # A stride of 0 lets a few bytes claim any shape, which would take too long to read.
    if any(w.numel() * w.itemsize > w.untyped_storage().nbytes() for w in weights.values()):
        raise CheckpointError(f"{source}: {name} weights are larger than what the file holds")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_LISTED] + ["..."] * (len(names) > _LISTED))


def _is_finite(weight: Tensor) -> bool:
    # The sum takes one read and no memory; where it overflows, each value is looked at.
    return bool(weight.sum().isfinite()) or bool(weight.isfinite().all())


@contextmanager
def _at_most(parameters: int) -> Iterator[None]:
    """Let this thread register that many parameters; ValueError from the next one on.

    Otherwise a configuration with a billion layers would be built for hours.
    """
    thread, count = threading.get_ident(), 0

    def on_registration(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal count
        if parameter is None or threading.get_ident() != thread:
            return
        count += 1
        if count > parameters:
            raise ValueError("it would have more parameters than the file has weights")

    hook = register_module_parameter_registration_hook(on_registration)
    try:
        yield
    finally:
        hook.remove()
