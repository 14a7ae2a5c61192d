# SPDX-License-Identifier: Apache-2.0
"""Runs the demo: all nodes as processes, a goal image by service, a folder with the results."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np
from rich.console import Console
from rich.markdown import Markdown

from vjepa2_ros.demo import report
from vjepa2_ros.demo.progress import ProgressView
from vjepa2_ros.evaluation.reach import SUCCESS_DISTANCE, ReachEpisode
from vjepa2_ros.evaluation.record import Record
from vjepa2_ros.settings.files import NAMESPACE, Configuration
from vjepa2_ros.settings.stack import managed_nodes
from vjepa2_ros.simulation.simulator import Simulator, SimulatorConfig
from vjepa2_ros.stack.client import StackClient, read_images
from vjepa2_ros.stack.observer import StackObserver
from vjepa2_ros.stack.process_group import ProcessGroup
from vjepa2_ros.stack.start import start_stack
from vjepa2_ros.stack.text import printable

READY_TIMEOUT = 60.0
REST_TIMEOUT = 10.0


class DemoError(RuntimeError):
    """The demo could not be finished; the text says why."""


@dataclass(frozen=True)
class DemoSettings:
    """One demo.

    Attributes:
        configuration: settings of the stack; the simulator's seed decides scene, start and goal.
        folder: of everything that is written; made if it does not exist.
        steps: most steps, None for the planner's own number.
        timeout: longest time for the goal [s].
    """

    configuration: Configuration
    folder: Path
    steps: int | None
    timeout: float


def run_demo(settings: DemoSettings, console: Console, stop: threading.Event) -> dict:
    """Run a demo from the start of the stack to the report.

    Args:
        settings: of the demo.
        console: shows progress and what the nodes warn of.
        stop: ends it early.

    Returns:
        The summary, see `demo.report.summary`.

    Raises:
        DemoError: it was stopped, or something that it needs did not come.
        RosError: ROS cannot be started.
        ClientError: the goal could not be sent.
        ProcessGroupError: a node could not be started, or ended.
        OSError: a file could not be written.
    """
    folder = settings.folder
    folder.mkdir(parents=True, exist_ok=True)
    simulation = settings.configuration.settings.simulator
    simulator = Simulator(SimulatorConfig(workspace=simulation.workspace))
    episode = ReachEpisode.sample(simulation.seed, simulator, simulation.image_size)
    goal_file = folder / "goal.png"
    cv2.imwrite(str(goal_file), cv2.cvtColor(episode.goal_image, cv2.COLOR_RGB2BGR))
    with (
        open(folder / "nodes.log", "w", encoding="utf-8") as log,
        # Outside the processes, so that the bag has their first and last messages.
        StackObserver(NAMESPACE, folder / "bag") as observer,
        ProcessGroup(on_line=_keep(log, console)) as group,
    ):
        console.print("starting the nodes …")
        nodes = managed_nodes("simulation")
        start_stack(
            group,
            nodes,
            settings.configuration.all_changes(),
            stop=stop,
            # From then on no transition of a node can be missed.
            on_started=lambda: _wait(
                lambda: observer.hears(nodes),
                READY_TIMEOUT,
                stop,
                group,
                "not all nodes sent a heartbeat",
            ),
        )
        record = observer.record
        wait_for_inputs(record, READY_TIMEOUT, stop, group)
        with StackClient(NAMESPACE) as client:
            answer = client.set_goal(
                read_images([goal_file]), [settings.steps] if settings.steps else []
            )
        if not answer.accepted:
            raise DemoError(f"the goal was refused: {answer.message}")
        console.print(f"{answer.goal_id} accepted: {answer.message}")
        _follow(record, answer.goal_id, episode.goal_state[:3], settings, console, stop, group)
        observer.finish_record()
    console.print("drawing …")
    run = report.Run(
        record, answer.goal_id, episode.goal_image, episode.goal_state[:3], SUCCESS_DISTANCE
    )
    figures = report.write(run, folder)
    console.print(Markdown(report.latency_table(figures)))
    return figures


def wait_for_inputs(
    record: Record, timeout: float, stop: threading.Event, group: ProcessGroup
) -> None:
    """Wait until planner and observer have what a goal needs.

    Raises:
        DemoError: names what is missing after `timeout` [s].
    """

    def missing() -> list[str]:
        inputs = {
            "no image reached the planner": record.planner_ready,
            "no state of the robot arrived": bool(record.positions),
        }
        return [text for text, is_there in inputs.items() if not is_there]

    _wait(lambda: not missing(), timeout, stop, group, lambda: " and ".join(missing()))


def _follow(
    record: Record,
    goal_id: str,
    goal_position: np.ndarray,
    settings: DemoSettings,
    console: Console,
    stop: threading.Event,
    group: ProcessGroup,
) -> None:
    with ProgressView(console, goal_position) as view:

        def is_over() -> bool:
            view.update(record, goal_id)
            progress = record.of_goal(goal_id)
            return bool(progress) and progress[-1].over

        _wait(is_over, settings.timeout, stop, group, "the goal was not over in time")
        # The result is where the robot comes to rest.
        _wait(
            lambda: not record.moving, REST_TIMEOUT, stop, group, "the robot did not come to rest"
        )
        images = len(record.images)
        _wait(lambda: len(record.images) > images + 5, REST_TIMEOUT, stop, group, "no more images")


def _wait(
    condition: Callable[[], bool],
    timeout: float,
    stop: threading.Event,
    group: ProcessGroup,
    late: str | Callable[[], str],
) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        group.check()
        if stop.wait(0.1):
            raise DemoError("interrupted")
        if time.monotonic() > deadline:
            text = late if isinstance(late, str) else late()
            raise DemoError(f"{text} within {timeout:.0f} s; see nodes.log")


def _keep(log: TextIO, console: Console) -> Callable[[str, str], None]:
    """Function that writes the lines of the nodes into the log, and shows warnings and errors."""

    def on_line(name: str, line: str) -> None:
        line = printable(line)
        log.write(f"[{name}] {line}\n")
        if "[WARN]" in line or "[ERROR]" in line or "[FATAL]" in line or "Traceback" in line:
            console.print(f"[{name}] {line}", style="yellow", markup=False, highlight=False)

    return on_line
