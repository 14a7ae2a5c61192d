# SPDX-License-Identifier: Apache-2.0
"""Planners by name: those of this package, and any other that can be imported."""

import importlib
from collections.abc import Callable

from vjepa2_ros.planning.cem import CEMConfig, CrossEntropyMethod
from vjepa2_ros.planning.cma_es import CovarianceMatrixAdaptation
from vjepa2_ros.planning.icem import ImprovedCrossEntropyMethod
from vjepa2_ros.planning.latent_quadratic import LatentQuadraticSurrogate
from vjepa2_ros.planning.mppi import ModelPredictivePathIntegral
from vjepa2_ros.planning.planner import Planner
from vjepa2_ros.planning.quadratic import QuadraticSurrogate

PLANNERS: dict[str, Callable[[int], Planner]] = {
    "cem": lambda evaluations: CrossEntropyMethod(CEMConfig.of(evaluations)),
    "icem": ImprovedCrossEntropyMethod,
    "mppi": ModelPredictivePathIntegral,
    "cma_es": CovarianceMatrixAdaptation,
    "quadratic": QuadraticSurrogate,
    "latent_quadratic": LatentQuadraticSurrogate,
}


def make_planner(name: str, evaluations: int) -> Planner:
    """A planner that may ask for so many energies.

    name: one of `PLANNERS`, or "module:Class" of one that takes the number of evaluations.
    Raises ValueError on a name that is none and on a number that the planner cannot work with.
    """
    if name in PLANNERS:
        return PLANNERS[name](evaluations)
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)(evaluations)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"unknown planner {name!r} ({error}): use {', '.join(PLANNERS)}, or module:Class"
        ) from error
