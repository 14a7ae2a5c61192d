# SPDX-License-Identifier: Apache-2.0
"""Ways to run the networks faster without changing them: compiled, and captured as a CUDA graph.

They wrap a `WorldModel` from outside and share its weights.
"""

import copy
from collections.abc import Callable
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, nn

from vjepa2_ros.world_model.world_model import WorldModel

Network = TypeVar("Network", bound=nn.Module)
WARM_UP_CALLS = 3
"""Before a capture, so that libraries are loaded and tables are made."""


class NotOnThisDevice(RuntimeError):
    """Something was asked for that a device of this kind does not have."""


def compiled(model: WorldModel) -> WorldModel:
    """A model with the same weights whose transformer blocks are compiled.

    Block by block instead of as a whole: all blocks share one compiled function, so that compiling
    takes seconds instead of minutes. Each shape of the input is compiled at its first use. On a
    CPU the blocks are traced and run as they were, which needs no compiler.

    Args:
        model: that is left as it is.
    """
    encoder, predictor = _with_same_weights(model.encoder), _with_same_weights(model.predictor)
    backend = "inductor" if model.device.type == "cuda" else "aot_eager"
    for block in [*encoder.model.encoder.layer, *predictor.predictor_blocks]:
        # Whole graphs only: otherwise torch runs eagerly, silently, what it cannot compile.
        block.compile(backend=backend, dynamic=False, fullgraph=True)
    return WorldModel(encoder, predictor, model.crop_aspect, model.name, model.compute_dtype)


def captured(function: Callable[[Tensor], Tensor], example: Tensor) -> Callable[[Tensor], Tensor]:
    """A function captured as a CUDA graph, which is launched at once instead of kernel by kernel.

    Args:
        function: from a CUDA tensor to a CUDA tensor, without host synchronisation.
        example: input that has the shape and dtype of all later ones.

    Returns:
        The function; its result is overwritten by its next call.

    Raises:
        NotOnThisDevice: the example is not on a CUDA device.
    """
    if example.device.type != "cuda":
        raise NotOnThisDevice("CUDA graphs need a CUDA device")
    static = example.clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP_CALLS):
            function(static)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = function(static)

    def replay(values: Tensor) -> Tensor:
        static.copy_(values)
        graph.replay()
        return output

    return replay


def _with_same_weights(module: Network) -> Network:
    """A copy of a module that shares its parameters and buffers."""
    kept = {id(tensor): tensor for tensor in chain(module.parameters(), module.buffers())}
    return copy.deepcopy(module, kept)
