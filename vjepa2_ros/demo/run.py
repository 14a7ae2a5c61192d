# SPDX-License-Identifier: Apache-2.0
"""Runs the demo: all nodes as processes, pictures by service, a folder with the results."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import cv2
from rich.console import Console
from rich.markdown import Markdown

from vjepa2_ros.demo import report
from vjepa2_ros.demo.progress import ProgressView
from vjepa2_ros.demo.recorded_run import Run
from vjepa2_ros.evaluation.record import Record
from vjepa2_ros.ros.goal_messages import tool_state_message
from vjepa2_ros.settings.files import NAMESPACE, Configuration
from vjepa2_ros.settings.simulator import CAMERA_POSE
from vjepa2_ros.settings.stack import VISUALIZER, StackSettings, managed_nodes
from vjepa2_ros.simulation.simulator import Simulator, SimulatorConfig
from vjepa2_ros.stack.client import StackClient, read_images
from vjepa2_ros.stack.observer import StackObserver
from vjepa2_ros.stack.process_group import ProcessGroup
from vjepa2_ros.stack.start import start_panel, start_stack
from vjepa2_ros.tasks import load_task
from vjepa2_ros.tasks.outcome import HOLD_TIME
from vjepa2_ros.tasks.task import Episode, EpisodeError, Task, TaskOptions, draw_episode
from vjepa2_ros.tasks.truth import Trace
from vjepa2_ros.world_model.checkpoint import CheckpointError, check_world_model, open_world_model
from vjepa2_ros.world_model.world_model import WorldModel

READY_TIMEOUT = 120.0
REST_TIMEOUT = 10.0
_BEFORE = 0.5
"""The truth counts from so long before the first status of the goal [s]."""


class DemoError(RuntimeError):
    """The demo could not be finished; the text says why."""


@dataclass(frozen=True)
class DemoSettings:
    """One demo.

    Attributes:
        configuration: settings of the stack; those of the simulator name the task, and their seed
            decides scene, start and pictures.
        options: object, pictures and gripper; object and size of the pictures are the simulator's.
        folder: of everything that is written; made if it does not exist.
        steps: most steps on one picture, None for what the task gives each.
        timeout: longest time for the goal [s].
        panel: whether the page in the browser shows it, too.
    """

    configuration: Configuration
    options: TaskOptions
    folder: Path
    steps: int | None
    timeout: float
    panel: bool = False


def run_demo(settings: DemoSettings, console: Console, stop: threading.Event) -> dict:
    """Run a demo from the start of the stack to the report.

    Args:
        settings: of the demo.
        console: shows progress and what the nodes warn of.
        stop: ends it early.

    Returns:
        The summary, see `demo.report.summary`.

    Raises:
        DemoError: it was stopped, its checkpoint cannot be used, or something that it needs did
            not come.
        RosError: ROS cannot be started.
        ClientError: the goal could not be sent.
        ProcessGroupError: a node could not be started, or ended.
        OSError: a file could not be written.
    """
    folder = settings.folder
    folder.mkdir(parents=True, exist_ok=True)
    stack = settings.configuration.settings
    try:
        for model in (stack.encoder.model, stack.planner.model):
            check_world_model(model)
    except CheckpointError as error:
        raise DemoError(str(error)) from error
    task = load_task(stack.simulator.task)
    console.print("taking the pictures …")
    episode = _episode(task, settings)
    pictures = _write_pictures(episode, folder)
    with (
        open(folder / "nodes.log", "w", encoding="utf-8") as log,
        # Outside the processes, so that the bag has their first and last messages.
        StackObserver(NAMESPACE, folder / "bag") as observer,
        ProcessGroup(on_line=_keep(log, console)) as group,
    ):
        console.print("starting the nodes …")
        nodes = managed_nodes("simulation")
        parameters = settings.configuration.all_changes()
        parameters[VISUALIZER]["camera_pose"] = list(CAMERA_POSE)
        start_stack(
            group,
            nodes,
            parameters,
            stop=stop,
            watchers=(VISUALIZER,) if settings.panel else (),
            # From then on no transition of a node can be missed.
            on_started=lambda: _wait(
                lambda: not observer.silent(nodes),
                READY_TIMEOUT,
                stop,
                group,
                lambda: f"no heartbeat came from {', '.join(observer.silent(nodes))}",
            ),
        )
        record = observer.record
        wait_for_inputs(record, READY_TIMEOUT, stop, group)
        if settings.panel:
            _open_panel(group, console, stop)
        with StackClient(NAMESPACE) as client:
            answer = client.set_goal(
                read_images(pictures),
                [subgoal.steps for subgoal in episode.subgoals],
                [subgoal.gripper for subgoal in episode.subgoals],
                [
                    tool_state_message(subgoal.state)
                    for subgoal in episode.subgoals
                    if subgoal.state is not None
                ],
            )
        if not answer.accepted:
            raise DemoError(f"the goal was refused: {answer.message}")
        console.print(f"{answer.goal_id} accepted: {answer.message}", markup=False)
        _follow(record, answer.goal_id, episode, settings, console, stop, group)
        observer.finish_record()
    console.print("drawing …")
    run = _judged(record, answer.goal_id, stack.simulator.task, task, episode)
    figures = report.write(run, folder, _drawing_model(stack))
    console.print(Markdown(report.latency_table(figures)))
    return figures


def _open_panel(group: ProcessGroup, console: Console, stop: threading.Event) -> None:
    """Serve the page, and on a terminal wait until somebody has opened it."""
    start_panel(group)
    console.print(group.wait_for_line("panel", "the page is at", stop=stop), markup=False)
    if sys.stdin.isatty():
        console.print("open it, then press Enter to set the goal")
        sys.stdin.readline()


def _episode(task: Task, settings: DemoSettings) -> Episode:
    """The episode of the seed, with the steps that the settings allow.

    Raises:
        DemoError: the scene allows no episode.
    """
    stack = settings.configuration.settings
    simulator = Simulator(SimulatorConfig(workspace=stack.simulator.workspace))
    try:
        episode = draw_episode(task, simulator, stack.simulator.seed, settings.options)
    except EpisodeError as error:
        raise DemoError(str(error)) from error
    if stack.planner.execution.overlap:
        # Plans made in motion count as steps, and follow each other several times as fast.
        steps = stack.planner.loop.steps_per_subgoal
        subgoals = tuple(replace(subgoal, steps=steps) for subgoal in episode.subgoals)
        episode = replace(episode, subgoals=subgoals)
    return episode if settings.steps is None else episode.with_steps(settings.steps)


def _write_pictures(episode: Episode, folder: Path) -> list[Path]:
    """Write the picture of each sub-goal; their files in order."""
    files = []
    for number, subgoal in enumerate(episode.subgoals, 1):
        files.append(folder / f"goal_{number}.png")
        cv2.imwrite(str(files[-1]), cv2.cvtColor(subgoal.image, cv2.COLOR_RGB2BGR))
    return files


def _judged(record: Record, goal_id: str, name: str, task: Task, episode: Episode) -> Run:
    """The run with its outcome, by the truth of its time."""
    first, last = record.of_goal(goal_id)[0], record.of_goal(goal_id)[-1]
    trace = Trace([truth for truth in record.truths if truth.time >= first.time - _BEFORE])
    refused = last.state == "FAILED" and goal_id in record.refused
    outcome = task.outcome(episode, trace, refused)
    return Run(record, goal_id, name, episode, trace, outcome)


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
            "no truth of the simulation arrived": bool(record.truths),
        }
        return [text for text, is_there in inputs.items() if not is_there]

    _wait(lambda: not missing(), timeout, stop, group, lambda: " and ".join(missing()))


def _follow(
    record: Record,
    goal_id: str,
    episode: Episode,
    settings: DemoSettings,
    console: Console,
    stop: threading.Event,
    group: ProcessGroup,
) -> None:
    with ProgressView(console, episode) as view:

        def is_over() -> bool:
            view.update(record, goal_id)
            progress = record.of_goal(goal_id)
            return bool(progress) and progress[-1].over

        _wait(is_over, settings.timeout, stop, group, "the goal was not over in time")
        _wait(
            lambda: not record.moving, REST_TIMEOUT, stop, group, "the robot did not come to rest"
        )
        # Whether something is held, or stands, shows after a while.
        until = record.truths[-1].time + HOLD_TIME
        _wait(
            lambda: record.truths[-1].time >= until,
            REST_TIMEOUT,
            stop,
            group,
            "the truth of the simulation did not go on",
        )


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
            raise DemoError(
                f"{text} within {timeout:.0f} s: is other work keeping the machine busy? See "
                "nodes.log, and try again"
            )


def _drawing_model(settings: StackSettings) -> WorldModel | None:
    """The planner's model, if it can draw what it imagines; another is not loaded for that."""
    try:
        return open_world_model(settings.planner.model, parts=("decoder",))
    except CheckpointError:
        return None


def _keep(log: TextIO, console: Console) -> Callable[[str, str], None]:
    """Function that writes the lines of the nodes into the log, and shows warnings and errors."""

    def on_line(name: str, line: str) -> None:
        log.write(f"[{name}] {line}\n")
        if "[WARN]" in line or "[ERROR]" in line or "[FATAL]" in line or "Traceback" in line:
            console.print(f"[{name}] {line}", style="yellow", markup=False, highlight=False)

    return on_line
