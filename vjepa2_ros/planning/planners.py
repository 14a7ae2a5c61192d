# SPDX-License-Identifier: Apache-2.0
"""The registry of planners: those of this package, and any other that can be imported."""

import importlib
from typing import Any

from vjepa2_ros.planning.cem import CrossEntropyMethod
from vjepa2_ros.planning.cma_es import CovarianceMatrixAdaptation
from vjepa2_ros.planning.icem import ImprovedCrossEntropyMethod
from vjepa2_ros.planning.latent_quadratic import LatentQuadraticSurrogate
from vjepa2_ros.planning.mppi import ModelPredictivePathIntegral
from vjepa2_ros.planning.planner import Planner
from vjepa2_ros.planning.quadratic import QuadraticSurrogate
from vjepa2_ros.planning.skeletons import SkeletonSearch
from vjepa2_ros.settings.planning import (
    CEMSettings,
    CMAESSettings,
    ICEMSettings,
    LatentQuadraticSettings,
    MPPISettings,
    QuadraticSettings,
    SearchSettings,
    SkeletonSettings,
    search_names,
)

PLANNERS: dict[type, Any] = {
    LatentQuadraticSettings: LatentQuadraticSurrogate,
    QuadraticSettings: QuadraticSurrogate,
    ICEMSettings: ImprovedCrossEntropyMethod,
    CMAESSettings: CovarianceMatrixAdaptation,
    MPPISettings: ModelPredictivePathIntegral,
    CEMSettings: CrossEntropyMethod,
    SkeletonSettings: SkeletonSearch,
}
"""Class of the planner for each class of settings; `SearchSettings` gives them their names."""


def make_planner(settings: SearchSettings) -> Planner:
    """The planner that the settings choose.

    Raises:
        ValueError: a planner outside this package cannot be imported or created, or the settings
            are out of range.
    """
    if ":" in settings.planner:
        return _external(settings.planner, settings.custom.evaluations)
    return PLANNERS[type(settings.chosen)](settings.chosen)


def make_planner_named(name: str, evaluations: int) -> Planner:
    """A planner by its name, or "module:Class", with a budget of evaluations.

    Raises:
        ValueError: there is no such planner, or it cannot work with that budget.
    """
    if ":" in name:
        return _external(name, evaluations)
    if name not in search_names():
        raise ValueError(
            f"unknown planner {name!r}: use {', '.join(search_names())}, or module:Class"
        )
    settings = type(getattr(SearchSettings(), name))
    budget = CEMSettings.of(evaluations) if settings is CEMSettings else settings(evaluations)
    return PLANNERS[settings](budget)


def _external(name: str, evaluations: int) -> Planner:
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)(evaluations)
    except Exception as error:
        raise ValueError(
            f"planner {name!r} cannot be used ({error}): give module:Class of a class that is "
            "created with a number of evaluations"
        ) from error
