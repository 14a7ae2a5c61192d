# SPDX-License-Identifier: Apache-2.0
"""What the launch file starts: its arguments, checked, as nodes with their parameters.

Apart from the launch file, so that it needs no `ros2 launch`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vjepa2_ros.ros.deadlines import Deadlines
from vjepa2_ros.settings.camera import source_of
from vjepa2_ros.settings.declaration import SettingsError
from vjepa2_ros.settings.files import ALL_NODES, NAMESPACE, namespace_of, resolve
from vjepa2_ros.settings.stack import (
    MANAGER,
    SIDES,
    check_robot,
    managed_nodes,
    nodes_of_side,
)

ARGUMENTS = (
    ("simulation", "true", "simulated robot and camera (true), or those of the parameters (false)"),
    ("camera", "", "with simulation:=false: device, video file or folder to take images from"),
    ("checkpoint", "", "world model, in the place of the configured one"),
    ("params_file", "", "parameter file or folder of such, merged over the shipped files"),
    ("preset", "", "shipped settings: contact, grasp, paper, push or simulated_franka"),
    ("seed", "", "with simulation:=true: scene of the simulation"),
    ("namespace", NAMESPACE.strip("/"), "namespace of all nodes"),
    ("side", "all", "all nodes, or those of one of two hosts: robot or gpu"),
    ("log_level", "info", "debug, info, warn, error or fatal"),
)
"""Name, default and description of each argument. An empty text means: not given."""
_BOOLEANS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}
_LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")


@dataclass(frozen=True)
class StackPlan:
    """What is to be started.

    Attributes:
        nodes: of the side that is started; the lifecycle manager is the last, if it belongs to it.
        parameters: values that differ from the declared defaults, by node.
        namespace: of the nodes, with a slash in front.
        side: that is started, see `settings.stack.SIDES`.
        has_network: whether others can see the stack by intention: a real robot, or two hosts.
        log_level: of the nodes.
        deadlines: for their end.
    """

    nodes: tuple[str, ...]
    parameters: Mapping[str, Mapping[str, Any]]
    namespace: str
    side: str
    has_network: bool
    log_level: str
    deadlines: Deadlines


def plan_stack(arguments: Mapping[str, str]) -> StackPlan:
    """What launch arguments ask for.

    Args:
        arguments: texts by the names of `ARGUMENTS`; what is absent has its default.

    Raises:
        SettingsError: an argument, a parameter file or a parameter cannot be used; the text says
            why.
    """
    given = {name: default for name, default, _ in ARGUMENTS} | dict(arguments)
    simulation = _boolean("simulation", given["simulation"])
    if given["camera"] and simulation:
        raise SettingsError(
            f"camera:={given['camera']} has no effect in simulation: give simulation:=false, too"
        )
    if given["seed"] and not simulation:
        raise SettingsError(f"seed:={given['seed']} has no effect without simulation: leave it out")
    side = given["side"]
    if side not in SIDES:
        raise SettingsError(f"side:={side} is unknown: use {', '.join(SIDES)}")
    if problem := side_problem(side, given["camera"], given["seed"]):
        raise SettingsError(problem)
    try:
        namespace = namespace_of(given["namespace"])
    except SettingsError as error:
        raise SettingsError(f"namespace:={error}") from None
    if given["log_level"].lower() not in _LOG_LEVELS:
        raise SettingsError(
            f"log_level:={given['log_level']} is unknown: use {', '.join(_LOG_LEVELS)}"
        )
    nodes = managed_nodes("simulation" if simulation else "hardware")
    seed = _whole("seed", given["seed"]) if given["seed"] else None
    options = stack_options(nodes, seed, given["camera"])
    options[ALL_NODES] = {"checkpoint": given["checkpoint"]} if given["checkpoint"] else {}
    files = [given["params_file"]] if given["params_file"] else []
    effective = resolve(files, given["preset"] or None, options, namespace)
    check_robot(nodes_of_side(nodes, side), effective.all_changes())
    started = (*nodes_of_side(nodes, side), *(() if side == "gpu" else (MANAGER,)))
    return StackPlan(
        nodes=started,
        parameters={name: effective.changes(name) for name in started},
        namespace=namespace,
        side=side,
        has_network=not simulation or side != "all",
        log_level=given["log_level"].lower(),
        deadlines=Deadlines.of(effective.settings.manager),
    )


def side_problem(side: str, *of_the_robot: object) -> str:
    """Why options of robot or camera have no effect on a side; empty if they have, or are none."""
    if side == "gpu" and any(of_the_robot):
        return "camera and seed belong to the robot side: give them there, not with side gpu"
    return ""


def stack_options(
    nodes: Sequence[str], seed: int | None = None, camera: str | None = None
) -> dict[str, dict[str, Any]]:
    """Parameters by node that the options of a launch file or a command set.

    Args:
        nodes: managed nodes in the order in which they come up.
        seed: scene of the simulation; None for the configured one.
        camera: device, video file or folder to take images from; None for the configured one.
    """
    return {
        "simulator_node": {} if seed is None else {"seed": seed},
        "camera_node": source_of(camera) if camera else {},
        MANAGER: {"nodes": nodes},
    }


def _boolean(name: str, text: str) -> bool:
    try:
        return _BOOLEANS[text.strip().lower()]
    except KeyError:
        raise SettingsError(f"{name}:={text} is neither true nor false") from None


def _whole(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise SettingsError(f"{name}:={text} is not an integer") from None
