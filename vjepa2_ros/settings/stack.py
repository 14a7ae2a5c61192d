# SPDX-License-Identifier: Apache-2.0
"""The nodes of the stack, registered once, and the rules between their settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vjepa2_ros.settings.camera import CameraNodeSettings
from vjepa2_ros.settings.clip import ClipNodeSettings
from vjepa2_ros.settings.controller import ControllerNodeSettings
from vjepa2_ros.settings.declaration import Parameter, SettingsError, build, parameters_of
from vjepa2_ros.settings.encoder import EncoderNodeSettings
from vjepa2_ros.settings.franka import FrankaSettings
from vjepa2_ros.settings.manager import LifecycleManagerSettings
from vjepa2_ros.settings.planning import PlannerNodeSettings
from vjepa2_ros.settings.recorder import RecorderNodeSettings
from vjepa2_ros.settings.simulator import SimulatorNodeSettings
from vjepa2_ros.settings.visualizer import VisualizerNodeSettings

MANAGER = "lifecycle_manager"
"""Name of the node that brings the others up and down."""
CONTROLLER = "controller_node"
"""Name of the node that moves the robot."""
PLANNER = "planner_node"
"""Name of the node that commands it."""
VISUALIZER = "visualizer_node"
"""Name of the node that shows what the others do."""
CLIP = "clip_node"
"""Name of the node that sees what is done in the camera's newest images."""
RECORDER = "recorder_node"
"""Name of the node that writes a bag."""
READY = "all nodes are active"
"""What the lifecycle manager logs once everything is up."""


@dataclass(frozen=True)
class StackSettings:
    """Typed settings of every node; the attributes are registered in `NODES`.

    Raises:
        ValueError: settings of two nodes contradict each other.
    """

    simulator: SimulatorNodeSettings = field(default_factory=SimulatorNodeSettings)
    controller: ControllerNodeSettings = field(default_factory=ControllerNodeSettings)
    camera: CameraNodeSettings = field(default_factory=CameraNodeSettings)
    encoder: EncoderNodeSettings = field(default_factory=EncoderNodeSettings)
    planner: PlannerNodeSettings = field(default_factory=PlannerNodeSettings)
    visualizer: VisualizerNodeSettings = field(default_factory=VisualizerNodeSettings)
    clip: ClipNodeSettings = field(default_factory=ClipNodeSettings)
    recorder: RecorderNodeSettings = field(default_factory=RecorderNodeSettings)
    manager: LifecycleManagerSettings = field(default_factory=LifecycleManagerSettings)

    def __post_init__(self) -> None:
        bound, limit = self.planner.action.max_translation, self.controller.limits.max_step
        if bound >= limit:
            raise ValueError(
                f"the planner's max_translation {bound} m must be below the controller's max_step "
                f"{limit} m, or a plan would latch a fault"
            )
        rate, silence = self.planner.status_rate, self.controller.planner_timeout
        if rate * silence < 2.0:
            raise ValueError(
                f"the planner's status_rate {rate} Hz must be at least twice 1 / planner_timeout "
                f"({1 / silence:.2f} Hz), or the controller would take it for silent"
            )


@dataclass(frozen=True)
class NodeEntry:
    """One node of the stack.

    Attributes:
        name: of the node, its executable and its file under `config/`.
        attribute: of its settings in `StackSettings`.
        settings: class of its settings.
        where: stacks that it belongs to: "simulation", "hardware".
        side: host that it runs on where there are two: "robot", "gpu".
        supervised: whether the lifecycle manager brings it up and down; the others do that
            themselves, and their end ends nothing else.
    """

    name: str
    attribute: str
    settings: type
    where: frozenset[str]
    side: str = "robot"
    supervised: bool = True


SIDES = ("all", "robot", "gpu")
"""Parts of a stack that can be started: all on one host, or one of two hosts."""
_BOTH = frozenset({"simulation", "hardware"})
NODES: dict[str, NodeEntry] = {
    entry.name: entry
    for entry in (
        # In the order in which they come up.
        NodeEntry("simulator_node", "simulator", SimulatorNodeSettings, frozenset({"simulation"})),
        NodeEntry("controller_node", "controller", ControllerNodeSettings, _BOTH),
        NodeEntry("camera_node", "camera", CameraNodeSettings, frozenset({"hardware"})),
        NodeEntry("encoder_node", "encoder", EncoderNodeSettings, _BOTH, "gpu"),
        NodeEntry("planner_node", "planner", PlannerNodeSettings, _BOTH, "gpu"),
        NodeEntry(
            VISUALIZER, "visualizer", VisualizerNodeSettings, _BOTH, "gpu", supervised=False
        ),
        NodeEntry(CLIP, "clip", ClipNodeSettings, _BOTH, "gpu", supervised=False),
        NodeEntry(RECORDER, "recorder", RecorderNodeSettings, _BOTH, supervised=False),
        NodeEntry(MANAGER, "manager", LifecycleManagerSettings, frozenset()),
    )
}
"""Every node by name. The lifecycle manager is started last and manages the others."""


def managed_nodes(where: str) -> tuple[str, ...]:
    """Names of the managed nodes of a stack ("simulation" or "hardware"), as they come up."""
    return tuple(
        name for name, entry in NODES.items() if where in entry.where and entry.supervised
    )


def nodes_of_side(nodes: Iterable[str], side: str) -> tuple[str, ...]:
    """Those of the managed nodes that run on one side of a stack, see `SIDES`."""
    return tuple(name for name in nodes if side in ("all", NODES[name].side))


def check_robot(nodes: Iterable[str], values: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse nodes of which a robot that is not simulated would move by simulated images.

    Args:
        nodes: managed nodes that are started here.
        values: that differ from the declared defaults, by node, then by parameter.

    Raises:
        SettingsError: it would.
    """
    controller, simulator = values.get(CONTROLLER, {}), values.get("simulator_node", {})
    robot, served = controller.get("robot", "simulator"), simulator.get("franka_server", "")
    host = controller.get("franka.host", FrankaSettings().host)
    if "simulator_node" not in nodes or robot == "simulator":
        return
    if robot == "franka" and served and host == served:
        return
    where = f" at {host}" if robot == "franka" else ""
    raise SettingsError(
        f"robot {robot!r}{where} would move by images of the simulation: name its camera (`up "
        "--camera`, or `simulation:=false` at launch), or set robot to 'simulator'; for the "
        "simulated cell behind the Franka control interface use the preset simulated_franka"
    )


def turn_to_end(name: str) -> int:
    """How many nodes are deactivated before the one of this name where a whole stack goes down.

    The controller is the first, since that halts the robot: a planner that hangs must not delay it.
    The others follow in reverse order, so that a simulated robot is there until it has halted.
    """
    supervised = [name for name, entry in NODES.items() if entry.supervised]
    order = [CONTROLLER, *(n for n in reversed(supervised) if n not in (MANAGER, CONTROLLER))]
    return order.index(name) if name in order else 0


def known_parameters() -> dict[str, Parameter]:
    """Every parameter of any node by its name: what a section `/**` may set."""
    return {
        name: parameter
        for entry in NODES.values()
        for name, parameter in parameters_of(entry.settings).items()
    }


def build_stack(values: Mapping[str, Mapping[str, Any]]) -> StackSettings:
    """Typed settings of all nodes.

    Args:
        values: by node, then by parameter; what is absent has its default.

    Raises:
        SettingsError: names each node's problems, or the settings that contradict each other.
    """
    built, problems = {}, []
    for name, entry in NODES.items():
        try:
            built[entry.attribute] = build(entry.settings, values.get(name, {}))
        except SettingsError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise SettingsError("; ".join(problems))
    try:
        return StackSettings(**built)
    except ValueError as error:
        raise SettingsError(str(error)) from error
