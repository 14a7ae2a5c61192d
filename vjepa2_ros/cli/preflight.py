# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros preflight`: whether everything is fit for a first motion; it moves nothing."""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vjepa2_ros.cli.arguments import positive_number
from vjepa2_ros.cli.configuration import add_configuration_arguments, configuration
from vjepa2_ros.cli.tables import wide_console

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table

    from vjepa2_ros.preflight.camera import CameraReading
    from vjepa2_ros.preflight.finding import Finding
    from vjepa2_ros.preflight.robot_reading import Refusal, RobotReading
    from vjepa2_ros.settings.camera import CameraNodeSettings
    from vjepa2_ros.settings.stack import StackSettings

GROUPS = ("network", "computer", "robot", "gripper", "workspace", "camera", "model", "ros")
"""In the order of the report."""
_CONNECTING = 5.0  # [s] for franky, process included
_CAMERA_TIMEOUT = 8.0
_MODEL_TIMEOUT = 180.0
_LISTENING = 2.5
_CLOSED = "see the address and the cable; activate FCI in Desk"
_COLOURS = {"OK": "green", "WARN": "yellow", "FAIL": "bold red", "SKIPPED": "dim"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "--robot-ip", required=True, metavar="IP", help="address of the robot's control unit"
    )
    parser.add_argument(
        "--seconds",
        type=positive_number,
        default=60.0,
        help="how long states of the robot are read",
    )
    parser.add_argument(
        "--realtime",
        choices=("enforce", "ignore"),
        default="enforce",
        help="whether franky has to have a real-time kernel, as for motions",
    )
    parser.add_argument(
        "--camera",
        metavar="PATH",
        help="also look at a device, a video file, a folder or a topic (/camera/image_raw)",
    )
    parser.add_argument(
        "--skip",
        nargs="+",
        choices=GROUPS,
        default=[],
        metavar="GROUP",
        help=f"groups to leave out: {', '.join(GROUPS)}",
    )
    add_configuration_arguments(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the findings here as well")


def run(arguments: argparse.Namespace) -> int:
    """Print the findings group by group.

    Returns:
        0 if nothing that was looked at is unfit, warnings allowed; 1 if something is; 2 if an
        argument cannot be used.
    """
    from vjepa2_ros import plain_json
    from vjepa2_ros.preflight.finding import Status
    from vjepa2_ros.settings.declaration import SettingsError
    from vjepa2_ros.text import printable

    try:
        settings = configuration(arguments).settings
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    console = wide_console()
    rows, counts = [], dict.fromkeys(Status, 0)
    for group, findings in _Preflight(arguments, settings).groups():
        console.print(_table(group, findings, printable))
        for finding in findings:
            counts[finding.status] += 1
            rows.append({"group": group} | asdict(finding) | {"status": finding.status.value})
    looked_at = {row["group"] for row in rows if row["status"] != Status.SKIPPED.value}
    left_out = [group for group in GROUPS if group not in looked_at]
    failed = bool(counts[Status.FAIL])
    text = ", ".join(f"{count} {status.value}" for status, count in counts.items())
    if failed:
        verdict, style = "NOT FIT: see FAIL above", "bold red"
    elif left_out:
        verdict = f"nothing is wrong in what was looked at; not looked at: {', '.join(left_out)}"
        style = "bold yellow"
    else:
        verdict, style = "fit for a first motion", "bold green"
    console.print(f"\n{verdict} ({text})", style=style)
    if arguments.json is not None:
        report = {
            "robot": arguments.robot_ip,
            "fit": not failed and not left_out,
            "not_looked_at": left_out,
            "findings": rows,
        }
        plain_json.write(report, arguments.json)
    return 1 if failed else 0


def _table(group: str, findings: list[Finding], printable: Callable[[str], str]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, title=f"\n{group}", expand=True)
    table.title_justify, table.title_style = "left", "bold"
    table.add_column(width=20)
    table.add_column(width=8)
    table.add_column(ratio=1)
    table.add_column(ratio=1)
    for finding in findings:
        status = finding.status.value
        table.add_row(
            finding.check,
            Text(status, _COLOURS[status]),
            Text(printable(finding.measured)),
            Text(printable(finding.advice), "italic"),
        )
    return table


class _Preflight:
    """Runs the groups in order; a later one is told what an earlier one found out."""

    def __init__(self, arguments: argparse.Namespace, settings: StackSettings) -> None:
        self._host: str = arguments.robot_ip
        self._arguments = arguments
        self._settings = settings
        self._enforce = arguments.realtime == "enforce"
        self._open: dict[int, bool] = {}
        self._arm = "fr3"
        self._tool: np.ndarray | None = None

    def groups(self) -> Iterator[tuple[str, list[Finding]]]:
        """Name and findings of each group, as soon as they are known."""
        for group in GROUPS:
            if group not in self._arguments.skip:
                yield group, getattr(self, f"_{group}")()

    def _network(self) -> list[Finding]:
        from vjepa2_ros.preflight import network

        ports = network.answers(self._host)
        self._open = {port: not answer.error for port, answer in ports.items()}
        return network.network_findings(self._host, ports)

    def _computer(self) -> list[Finding]:
        from vjepa2_ros.preflight import computer

        return [
            computer.kernel_finding(self._enforce),
            *computer.limit_findings(self._enforce),
            computer.governor_finding(),
            computer.clock_finding(computer.read_clock()),
        ]

    def _robot(self) -> list[Finding]:
        from vjepa2_ros.preflight import robot
        from vjepa2_ros.preflight.configured import configured_findings
        from vjepa2_ros.preflight.finding import fail, skipped
        from vjepa2_ros.preflight.network import ARM_PORT, knock
        from vjepa2_ros.preflight.process import MeasurementError
        from vjepa2_ros.preflight.robot_reading import Refusal
        from vjepa2_ros.preflight.server_version import (
            ServerVersionError,
            arm_of,
            installed_franky,
            read_server_version,
            version_finding,
        )

        if ARM_PORT not in self._open:  # the group network was left out
            self._open[ARM_PORT] = not knock(self._host, ARM_PORT).error
        if not self._open[ARM_PORT]:
            text = f"port {ARM_PORT} of {self._host} is not open"
            if "network" in self._arguments.skip:
                return [fail("robot", text, _CLOSED)]
            return [skipped("robot", text, "see network")]
        try:
            version = read_server_version(self._host)
        except ServerVersionError as error:
            advice = (
                "end other programs that use the arm, such as a running controller; is this the "
                "address of a Franka control unit?"
            )
            return [fail("server version", str(error), advice)]
        self._arm = arm_of(version)
        installed = installed_franky()
        if not installed:
            return [version_finding(version, "", False)]
        try:
            reading = self._read_robot()
        except MeasurementError as error:
            advice = "let the firewall of this computer pass UDP from the robot, and start again"
            return [version_finding(version, installed, False), fail("states", str(error), advice)]
        if isinstance(reading, Refusal):
            version_line = version_finding(version, installed, reading.is_version)
            return [version_line, robot.connection_finding(reading)]
        self._tool = reading.flange_to_end_effector.copy()
        controller = self._settings.controller
        if controller.robot == "franka":
            self._tool[:3, 3] += self._tool[:3, :3] @ controller.franka.tool_offset
        return [
            version_finding(version, installed, False),
            *configured_findings(controller, self._host, self._arm, self._enforce),
            *robot.communication_findings(reading),
            robot.drift_finding(reading),
            *robot.mode_findings(reading),
            robot.joint_finding(reading, self._arm),
            *robot.load_findings(reading),
        ]

    def _read_robot(self) -> RobotReading | Refusal:
        from tqdm import tqdm

        from vjepa2_ros.preflight.process import measure
        from vjepa2_ros.preflight.robot_reading import read_robot

        seconds = self._arguments.seconds
        layout = "{desc} {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s"
        with tqdm(total=seconds, desc="read states", bar_format=layout, leave=False) as bar:
            return measure(
                read_robot,
                self._host,
                self._enforce,
                seconds,
                timeout=seconds + _CONNECTING,
                on_progress=lambda done: bar.update(done * seconds - bar.n),
            )

    def _gripper(self) -> list[Finding]:
        from vjepa2_ros.preflight.finding import fail, skipped
        from vjepa2_ros.preflight.network import GRIPPER_PORT, knock
        from vjepa2_ros.preflight.process import MeasurementError, measure
        from vjepa2_ros.preflight.robot import gripper_findings
        from vjepa2_ros.preflight.robot_reading import read_gripper
        from vjepa2_ros.preflight.server_version import installed_franky

        if GRIPPER_PORT not in self._open:
            self._open[GRIPPER_PORT] = not knock(self._host, GRIPPER_PORT).error
        if not self._open[GRIPPER_PORT]:
            text = f"port {GRIPPER_PORT} of {self._host} is not open"
            if "network" in self._arguments.skip:
                return [fail("gripper", text, _CLOSED)]
            return [skipped("gripper", text, "see network")]
        if not installed_franky():
            return [skipped("gripper", "franky is not installed", "see server version")]
        try:
            reading = measure(read_gripper, self._host, timeout=_CONNECTING)
        except MeasurementError as error:
            return [fail("gripper", str(error), "switch the gripper off and on in Desk")]
        return gripper_findings(reading)

    def _workspace(self) -> list[Finding]:
        from vjepa2_ros.preflight.workspace import workspace_finding

        box = self._settings.controller.limits.cell.workspace
        return [workspace_finding(box, self._arm, self._tool)]

    def _camera(self) -> list[Finding]:
        from vjepa2_ros.preflight import camera
        from vjepa2_ros.preflight.finding import fail, skipped
        from vjepa2_ros.preflight.process import MeasurementError, measure
        from vjepa2_ros.settings.declaration import SettingsError

        name = self._arguments.camera
        if name is None:
            return [skipped("camera", "none is named", "name one with `--camera`")]
        settings, rate = self._settings.camera, self._settings.camera.rate
        try:
            if name.startswith("/") and not name.startswith("/dev/") and not Path(name).exists():
                reading = self._topic(name)
            else:
                reading = measure(
                    camera.read_camera, _source(settings, name), timeout=_CAMERA_TIMEOUT
                )
        except (MeasurementError, SettingsError) as error:
            advice = "unplug the camera and plug it in again; is another program using it?"
            return [fail("camera", str(error), advice)]
        age = self._settings.planner.execution.cell.age.max_observation_age
        return camera.camera_findings(reading, rate, age)

    def _topic(self, name: str) -> CameraReading | str:
        from vjepa2_ros.preflight.camera import MEASURED

        try:
            from vjepa2_ros.ros.context import RosError
            from vjepa2_ros.stack.listening import read_topic
        except ImportError as error:
            return f"there is no ROS for a topic: {error}"
        try:
            return read_topic(name, _LISTENING, MEASURED)
        except RosError as error:
            return str(error)

    def _model(self) -> list[Finding]:
        from vjepa2_ros.preflight.finding import fail
        from vjepa2_ros.preflight.model import model_findings, read_model
        from vjepa2_ros.preflight.process import MeasurementError, measure

        try:
            reading = measure(read_model, self._settings.planner, timeout=_MODEL_TIMEOUT)
        except MeasurementError as error:
            return [fail("model", str(error), "see whether memory suffices; `--skip model`")]
        age = self._settings.planner.execution.cell.age.max_observation_age
        return model_findings(reading, age)

    def _ros(self) -> list[Finding]:
        from vjepa2_ros.preflight.finding import fail
        from vjepa2_ros.preflight.ros_environment import environment_findings, hosts_finding

        findings = environment_findings()
        try:
            from vjepa2_ros.ros.context import RosError
            from vjepa2_ros.stack.listening import hosts_of_nodes
        except ImportError as error:
            advice = "source /opt/ros/DISTRO/setup.bash, or run `make setup`"
            return [*findings, fail("hosts", f"there is no ROS: {error}", advice)]
        try:
            hosts = hosts_of_nodes(_LISTENING)
        except RosError as error:
            return [*findings, fail("hosts", str(error), "correct the environment variables")]
        return [*findings, hosts_finding(hosts, socket.gethostname())]


def _source(settings: CameraNodeSettings, name: str) -> CameraNodeSettings:
    """Camera settings with this device, video or folder; SettingsError if there is none."""
    from vjepa2_ros.settings.camera import source_of

    source = source_of(name)
    return replace(settings, source=source["source"], path=source["path"])
