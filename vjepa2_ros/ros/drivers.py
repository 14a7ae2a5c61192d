# SPDX-License-Identifier: Apache-2.0
"""The registry of robot drivers."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vjepa2_ros.robot.driver import Robot, RobotError
from vjepa2_ros.robot.franka import FrankaRobot
from vjepa2_ros.robot.simulated import Link, SimulatedRobot
from vjepa2_ros.settings.franka import FrankaSettings


@dataclass(frozen=True)
class DriverContext:
    """What a driver is made with.

    Attributes:
        clock: present time in seconds, on the clock that states and commands are stamped with.
        link: connects with the simulation; called for the simulated robot alone.
        franka: settings of a Franka arm.
        options: keyword arguments of a driver outside this package.
    """

    clock: Callable[[], float]
    link: Callable[[], Link]
    franka: FrankaSettings = FrankaSettings()
    options: dict[str, Any] = field(default_factory=dict)


DRIVERS: dict[str, Callable[[DriverContext], Robot]] = {
    "simulator": lambda context: SimulatedRobot(context.link()),
    "franka": lambda context: FrankaRobot(context.clock, context.franka),
}
"""Factory of every driver of this package by its name."""


def create_robot(name: str, context: DriverContext) -> Robot:
    """Create the driver of a robot.

    Args:
        name: registered in `DRIVERS`, or `module:Class` of a driver outside this package, which is
            created with `clock` and the options as keyword arguments.
        context: what it is made with.

    Raises:
        ValueError: there is no such driver, it is not a `Robot`, or it does not take the options.
        RobotError: the robot cannot be reached.
    """
    if name in DRIVERS:
        if context.options:
            raise ValueError(f"robot {name!r} takes no robot_options: {sorted(context.options)}")
        return DRIVERS[name](context)
    driver = _load(name)
    try:
        return driver(clock=context.clock, **context.options)
    except TypeError as error:
        raise ValueError(
            f"robot {name!r} cannot be created with clock and robot_options "
            f"{json.dumps(context.options)}: {error}"
        ) from error
    except RobotError:
        raise
    except Exception as error:
        raise RobotError(f"robot {name!r} cannot be created: {error!r}") from error


def _load(name: str) -> Callable[..., Robot]:
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ValueError(
            f"unknown robot {name!r}; known: {', '.join(DRIVERS)}, or module:Class of a driver "
            "outside this package"
        )
    try:
        driver = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"robot {name!r} cannot be imported: {error}") from error
    methods = [method for method in vars(Robot) if not method.startswith("_")]
    if missing := [method for method in methods if not callable(getattr(driver, method, None))]:
        raise ValueError(f"robot {name!r} is not a driver: it lacks {', '.join(missing)}")
    return driver
