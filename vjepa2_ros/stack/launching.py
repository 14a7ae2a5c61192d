# SPDX-License-Identifier: Apache-2.0
"""What the launch file and `vjepa2-ros up` start: arguments, checked, as nodes with parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vjepa2_ros.ros.deadlines import Deadlines
from vjepa2_ros.settings.camera import source_of
from vjepa2_ros.settings.declaration import SettingsError
from vjepa2_ros.settings.files import ALL_NODES, NAMESPACE, Configuration, namespace_of, resolve
from vjepa2_ros.settings.simulator import CAMERA_POSE
from vjepa2_ros.settings.stack import (
    CLIP,
    CONTROLLER,
    MANAGER,
    PLANNER,
    RECORDER,
    SIDES,
    VISUALIZER,
    check_robot,
    managed_nodes,
    nodes_of_side,
)

ARGUMENTS: tuple[tuple[str, str, str], ...] = (
    ("simulation", "", "simulated robot and camera (true), or those of the parameters (false); by "
     "default true unless robot or camera are given"),
    ("robot", "", "robot to drive instead of the configured one: franka, or module:Class"),
    ("robot_ip", "", "address of a Franka arm's control unit, instead of the configured one"),
    ("camera", "", "device, video file or folder to take images from; topic: another driver "
     "publishes them on camera/image_raw"),
    ("planner", "", "search that plans, instead of the configured one"),
    ("checkpoint", "", "world model instead of the configured one"),
    ("params_file", "", "parameter file or folder of such, merged over the shipped files"),
    ("preset", "", "shipped settings: contact, grasp, paper, push or simulated_franka"),
    ("seed", "", "scene of the simulation"),
    ("namespace", NAMESPACE.strip("/"), "namespace of all nodes"),
    ("side", "all", "all nodes, or those of one of two hosts: robot or gpu"),
    ("visualizer", "true", "markers, images and transforms for RViz and other viewers"),
    ("rviz", "false", "RViz with the shipped configuration"),
    ("panel", "false", "a page in the browser, see `vjepa2-ros panel`"),
    ("clip", "false", "clip_node: embedding and labels of the camera's newest images"),
    ("record", "", "folder of a bag that every topic is recorded into; it must not exist yet"),
    ("log_level", "info", "debug, info, warn, error or fatal"),
)
"""Name, default and description of each argument. An empty text means: not given."""
SIMULATED, FRANKA = "simulator", "franka"
BY_TOPIC = "topic"
"""Value of `camera` for images that another driver publishes."""
CAMERA = "camera_node"
_BOOLEANS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}
_LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")


@dataclass(frozen=True)
class StackPlan:
    """What is to be started.

    Attributes:
        managed: nodes of both sides that the lifecycle manager brings up, in that order.
        nodes: of the side that is started; the lifecycle manager is the last, if it belongs to it.
        watchers: nodes whose end ends nothing.
        rviz, panel: whether these are started, too.
        parameters: values that differ from the declared defaults, by node.
        configuration: the effective values of all parameters, and where they come from.
        namespace: of the nodes, with a slash in front.
        side: that is started, see `settings.stack.SIDES`.
        has_network: whether others can see the stack by intention: a real robot, or two hosts.
        log_level: of the nodes.
        deadlines: for their end.
    """

    managed: tuple[str, ...]
    nodes: tuple[str, ...]
    watchers: tuple[str, ...]
    rviz: bool
    panel: bool
    parameters: Mapping[str, Mapping[str, Any]]
    configuration: Configuration
    namespace: str
    side: str
    has_network: bool
    log_level: str
    deadlines: Deadlines


def plan_stack(arguments: Mapping[str, str], files: Sequence[str | Path] = ()) -> StackPlan:
    """What launch arguments ask for.

    Args:
        arguments: texts by the names of `ARGUMENTS`; what is absent has its default.
        files: parameter files or folders of such, merged over the shipped files before
            `params_file`.

    Raises:
        SettingsError: an argument, a parameter file or a parameter cannot be used; the text says
            why.
    """
    given = {name: default for name, default, _ in ARGUMENTS} | dict(arguments)
    real = given["robot"] not in ("", SIMULATED) or bool(given["camera"])
    simulation = _boolean("simulation", given["simulation"] or str(not real))
    visualizer, rviz, panel, clip = (
        _boolean(name, given[name]) for name in ("visualizer", "rviz", "panel", "clip")
    )
    for name in ("rviz", "panel"):
        if given[name] != "false" and not visualizer and _boolean(name, given[name]):
            raise SettingsError(f"{name}:=true shows what visualizer_node makes: leave that on")
    if given["camera"] and simulation:
        raise SettingsError(
            f"camera:={given['camera']} has no effect in simulation: leave simulation out"
        )
    if given["robot_ip"] and given["robot"] != FRANKA:
        raise SettingsError(
            f"robot_ip:={given['robot_ip']} is of a Franka arm: give robot:={FRANKA}, too"
        )
    if given["seed"] and not simulation:
        raise SettingsError(
            f"seed:={given['seed']} is of the simulation, camera and robot are of a real cell: "
            "give one"
        )
    if given["record"] and Path(given["record"]).expanduser().exists():
        raise SettingsError(f"cannot record: {given['record']} exists already, name another folder")
    side = given["side"]
    if given["record"] and side == "gpu":
        raise SettingsError("record belongs to the robot side: give it there, not with side gpu")
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
    if given["camera"] == BY_TOPIC:
        nodes = tuple(name for name in nodes if name != CAMERA)
    seed = _whole("seed", given["seed"]) if given["seed"] else None
    options = stack_options(nodes, seed, given["camera"] if CAMERA in nodes else None)
    if simulation and (side != "gpu" or given["simulation"]):
        # The GPU side of a stack does not know whose images it gets unless it is told.
        options[VISUALIZER] = {"camera_pose": CAMERA_POSE}
    options[ALL_NODES] = {
        name: given[name] for name in ("checkpoint", "robot") if given[name]
    }
    options[PLANNER] = {"planner": given["planner"]} if given["planner"] else {}
    options[RECORDER] = {"folder": given["record"]} if given["record"] else {}
    options[CONTROLLER] = {"franka.host": given["robot_ip"]} if given["robot_ip"] else {}
    files = [*files, *([given["params_file"]] if given["params_file"] else [])]
    effective = resolve(files, given["preset"] or None, options, namespace)
    check_robot(nodes_of_side(nodes, side), effective.all_changes())
    started = (*nodes_of_side(nodes, side), *(() if side == "gpu" else (MANAGER,)))
    wanted = {VISUALIZER: visualizer, CLIP: clip, RECORDER: bool(given["record"])}
    watchers = nodes_of_side((name for name, is_wanted in wanted.items() if is_wanted), side)
    return StackPlan(
        managed=nodes,
        nodes=started,
        watchers=watchers,
        rviz=rviz,
        panel=panel,
        configuration=effective,
        parameters={name: effective.changes(name) for name in (*started, *watchers)},
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
        CAMERA: source_of(camera) if camera else {},
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
