# SPDX-License-Identifier: Apache-2.0
"""The page: what is shown beside the three-dimensional view, and what its buttons do."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import viser
from std_srvs.srv import Trigger
from viser import uplot

from vjepa2_ros.camera.decoding import MAX_PIXELS, ImageError, decode_image
from vjepa2_ros.execution.goal_status import GoalState
from vjepa2_ros.msg import PlanningStatus, RobotState
from vjepa2_ros.panel.world import World
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.ros.conversions import MessageError, compressed_image, image_array, seconds
from vjepa2_ros.settings.planning import GRIPPER_WORDS, PLANNED
from vjepa2_ros.srv import SetGoal
from vjepa2_ros.stack.client import MAX_BYTES, png
from vjepa2_ros.stack.link import Answer, StackLink
from vjepa2_ros.text import printable

MAX_SUBGOALS = 64
"""Most pictures in the list."""
PERIOD = 0.2
"""Time between two updates of the page [s]."""
STALE = 2.0
"""Age of a status after which the planner counts as silent, or of an image the camera [s]."""
UNCONFIRMED = 3.0
"""Time after which a request without an answer is said to be not confirmed [s]."""
_THUMBNAIL, _SHOWN = 160, 320  # sides of pictures in pixels
_KEPT = 600  # points of the curve
_RED, _GREEN, _GREY = (224, 49, 49), (47, 158, 68), (110, 118, 126)
_PLOTS = (("energy", "predicted_energy"), ("surprise",))
_COLOURS = {"energy": "#1c7ed6", "predicted_energy": "#f08c00", "surprise": "#e03131"}


@dataclass
class Subgoal:
    """A picture in the list, with the controls beside it."""

    data: bytes
    folder: Any
    steps: Any
    gripper: Any


class Page:
    """Controls and pictures of one page; all browsers that open it share them.

    Args:
        server: of the page.
        link: to the stack.
    """

    def __init__(self, server: viser.ViserServer, link: StackLink) -> None:
        self._server, self._gui, self._link = server, server.gui, link
        self._world = World(server)
        self._seen: dict[str, int] = {}
        self._subgoals: list[Subgoal] = []
        # Does all that changes or sends the list, one after the other.
        self._actions = ThreadPoolExecutor(1, "page")
        self._status: PlanningStatus | None = None
        self._robot: RobotState | None = None
        self._heard = self._image_came = -math.inf
        self._curve: deque[tuple[float, PlanningStatus]] = deque(maxlen=_KEPT)
        self._drawn, self._began = ("", -1), 0.0
        # The request that is not answered yet, and when it was made [s, steady].
        self._pending: tuple[str, float] | None = None
        self._gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False)
        self._gui.main_panel.dock_right()
        self._gui.set_panel_label("vjepa2_ros")
        self._add_controls()

    # Layout ---------------------------------------------------------------------------------

    def _add_controls(self) -> None:
        gui = self._gui
        stop = gui.add_button("STOP THE ROBOT", color=_RED, icon=viser.Icon.HAND_STOP)
        stop.on_click(lambda _: self._trigger("halt"))
        self._state = gui.add_markdown("waiting for the stack")
        self._answer = gui.add_markdown("")
        self._problem = gui.add_markdown("")
        cancel = gui.add_button("Cancel the goal", color=_GREY)
        cancel.on_click(lambda _: self._trigger("cancel"))
        self._reset = gui.add_button("Reset the fault", color=_GREY, disabled=True)
        self._reset.on_click(lambda _: self._trigger("reset_fault"))
        tabs = gui.add_tab_group()
        with tabs.add_tab("Goal"):
            upload = gui.add_upload_button("Add a goal picture from a file", mime_type="image/*")
            upload.on_upload(self._in_turn(self._add, lambda event: event.target.value.content))
            take = gui.add_button("Add the camera's picture")
            take.on_click(self._in_turn(self._take_picture))
            self._list = gui.add_folder("Sub-goals, in order")
            send = gui.add_button("Set the goal", color=_GREEN)
            send.on_click(self._in_turn(self._send))
            clear = gui.add_button("Clear the list", color=_GREY)
            clear.on_click(self._in_turn(self._clear))
        with tabs.add_tab("Views"):
            blank = np.zeros((_SHOWN, _SHOWN, 3), np.uint8)
            self._camera = gui.add_image(blank, label="camera", format="jpeg")
            self._difference = gui.add_image(
                np.zeros((256, 768, 3), np.uint8), label="camera, goal, difference", format="jpeg"
            )
        with tabs.add_tab("Energy"):
            self._plots = [self._add_plot(names) for names in _PLOTS]
            self._latencies = gui.add_markdown("")

    def _add_plot(self, names: tuple[str, ...]) -> Any:
        none = np.zeros(1)
        curves = [
            uplot.Series(label=name.replace("_", " "), stroke=_COLOURS[name], width=2)
            for name in names
        ]
        return self._gui.add_uplot(
            (none, *(none for _ in names)),
            (uplot.Series(label="time [s]"), *curves),
            scales={"x": uplot.Scale(time=False, auto=True), "y": uplot.Scale(auto=True)},
            aspect=2.0,
        )

    # Actions --------------------------------------------------------------------------------

    def _in_turn(
        self, action: Callable[..., None], *arguments: Callable[[Any], Any]
    ) -> Callable[[Any], Coroutine]:
        """A callback that changes or sends the list after all that was asked for before it.

        viser runs each callback in a thread of its own, so that a list that was cleared could lose
        what was added afterwards.

        Args:
            action: what is done.
            arguments: take each of its arguments from the event.
        """

        async def asked(event: Any) -> None:
            # Not awaited: the messages of a browser, a stop among them, would wait for it.
            given = [argument(event) for argument in arguments]
            self._actions.submit(action, *given).add_done_callback(self._show_failure)

        return asked

    def _show_failure(self, done: Future) -> None:
        if (error := done.exception()) is not None:
            self._show_answer("page", Answer(False, f"unexpected: {error!r}"))

    def _trigger(self, name: str) -> None:
        self._ask(name, name, Trigger.Request())

    def _ask(self, what: str, service: str, request: Any) -> None:
        """Call a service, and show that there is no answer until there is one."""
        self._answer.content = f"**{what}** … not confirmed yet"
        self._pending = (what, time.monotonic())
        self._link.call(service, request, partial(self._show_answer, what))

    def _show_answer(self, what: str, answer: Answer) -> None:
        if self._pending is not None and self._pending[0] == what:
            self._pending = None
        mark = "✓" if answer.done else "✗ refused:"
        self._answer.content = f"**{what}** {mark} {_plain(answer.message)}"

    def _take_picture(self) -> None:
        _, message = self._link.newest("image")
        if message is None or time.monotonic() - self._image_came > STALE:
            self._show_answer("picture", Answer(False, "no image of the camera comes"))
            return
        try:
            self._add(png(image_array(message)))
        except MessageError as error:
            self._show_answer("picture", Answer(False, str(error)))

    def _add(self, data: bytes) -> None:
        """Add a picture to the list, or say why not."""
        total = len(data) + sum(len(subgoal.data) for subgoal in self._subgoals)
        problem = ""
        if total > MAX_BYTES:
            problem = f"more than {MAX_BYTES / 1e6:.0f} MB together: scale the pictures down"
        elif len(self._subgoals) >= MAX_SUBGOALS:
            problem = f"more than {MAX_SUBGOALS} pictures"
        try:
            image = None if problem else _fitted(decode_image(data, MAX_PIXELS), _THUMBNAIL)
        except ImageError as error:
            image, problem = None, str(error)
        if image is None:
            self._show_answer("picture", Answer(False, problem))
            return
        number = len(self._subgoals) + 1
        with self._list:
            folder = self._gui.add_folder(f"sub-goal {number}")
        with folder:
            self._gui.add_image(image, format="jpeg")
            steps = self._gui.add_number("steps (0: default)", 0, min=0, max=10_000, step=1)
            gripper = self._gui.add_dropdown("gripper", GRIPPER_WORDS, initial_value=PLANNED)
            remove = self._gui.add_button("Remove", color=_GREY)
        subgoal = Subgoal(data, folder, steps, gripper)
        remove.on_click(self._in_turn(partial(self._remove, subgoal)))
        self._subgoals.append(subgoal)

    def _remove(self, subgoal: Subgoal) -> None:
        if subgoal in self._subgoals:
            self._subgoals.remove(subgoal)
            subgoal.folder.remove()
            for number, other in enumerate(self._subgoals, start=1):
                other.folder.label = f"sub-goal {number}"

    def _clear(self) -> None:
        for subgoal in list(self._subgoals):
            self._remove(subgoal)

    def _send(self) -> None:
        subgoals = list(self._subgoals)
        if not subgoals:
            self._show_answer("goal", Answer(False, "add a picture first"))
            return
        steps = [int(subgoal.steps.value) for subgoal in subgoals]
        if any(steps) and not all(steps):
            text = "give steps for every sub-goal, or for none"
            self._show_answer("goal", Answer(False, text))
            return
        request = SetGoal.Request(
            images=[compressed_image(subgoal.data) for subgoal in subgoals],
            steps=steps if any(steps) else [],
            gripper=[subgoal.gripper.value for subgoal in subgoals],
        )
        self._ask("goal", "set_goal", request)

    # Updates --------------------------------------------------------------------------------

    def update(self, now: float) -> None:
        """Show what is new; what cannot be shown keeps nothing else from being shown.

        Args:
            now: [s, steady].
        """
        parts: tuple[Callable[[], None], ...] = (
            partial(self._update_state, now),
            self._update_arm,
            self._update_markers,
            partial(self._update_image, "image", self._camera, now),
            partial(self._update_image, "difference", self._difference, now),
        )
        problems = []
        for part in parts:
            try:
                part()
            except Exception as error:  # noqa: BLE001 - messages of anybody; STOP has to stay
                problems.append(_plain(str(error)))
        shown = f"cannot be shown: {'; '.join(problems)}" if problems else ""
        if shown != self._problem.content:
            self._problem.content = shown

    def _update_state(self, now: float) -> None:
        late = self._pending is not None and now - self._pending[1] > UNCONFIRMED
        # Encoding the pictures of a goal takes as long as it takes.
        if late and self._pending[0] != "goal":
            what, self._pending = self._pending[0], None
            answer = f"**{what}** ✗ not confirmed within {UNCONFIRMED:.0f} s"
            if what == "halt":
                answer += ": use the robot's own stop"
            self._answer.content = answer
        if (status := self._new("status")) is not None:
            self._status, self._heard = status, now
            self._add_to_curve(status)
        if (state := self._new("robot_state")) is not None:
            self._robot = state
        self._show_state(now)

    def _update_arm(self) -> None:
        if (joints := self._new("joints")) is not None:
            closed = self._robot.gripper_closedness if self._robot is not None else 0.0
            self._world.show_arm(joints, 0.08 * (1.0 - closed))

    def _update_markers(self) -> None:
        if (markers := self._new("markers")) is not None:
            self._world.show_markers(markers)

    def _update_image(self, name: str, handle: Any, now: float) -> None:
        if (message := self._new(name)) is not None:
            if name == "image":
                self._image_came = now
            handle.image = _fitted(image_array(message), _SHOWN if name == "image" else 768)

    def _new(self, name: str) -> Any:
        number, message = self._link.newest(name, self._seen.get(name, 0))
        self._seen[name] = number
        return message

    def _show_state(self, now: float) -> None:
        status, robot = self._status, self._robot
        if status is None or now - self._heard > STALE:
            text = "**the planner is silent**: bring the stack up"
        else:
            state = GoalState(status.state) if status.state in list(GoalState) else None
            text = f"### {state.name if state else 'UNKNOWN'}\n"
            if status.goal_id:
                text += (
                    f"{_plain(status.goal_id)}, sub-goal {status.subgoal + 1} of "
                    f"{status.subgoals}, step {status.step}, energy {status.energy:.3f}\n\n"
                )
            text += _plain(status.message)
        fault = robot is not None and bool(robot.fault_reason or robot.fault)
        if fault:
            name = Reason.of(robot.fault_reason).name
            text += f"\n\n**FAULT {name}**: {_plain(robot.fault)}"
        elif robot is not None and robot.mode != RobotState.READY:
            text += f"\n\n**the robot takes no commands**: {_plain(robot.mode_message)}"
        if text != self._state.content:
            self._state.content = text
        if self._reset.disabled == fault:
            self._reset.disabled = not fault

    def _add_to_curve(self, status: PlanningStatus) -> None:
        step = status.goal_id, status.step
        if not status.step or step == self._drawn:
            return
        if status.goal_id != self._drawn[0]:
            self._curve.clear()
            self._began = seconds(status.header.stamp)
        self._drawn = step
        self._curve.append((seconds(status.header.stamp) - self._began, status))
        for names, plot in zip(_PLOTS, self._plots, strict=True):
            rows = [(time, *(getattr(s, name) for name in names)) for time, s in self._curve]
            # Of the first step there is no surprise, and what is no number cannot be drawn.
            known = [row for row in rows if np.isfinite(row).all()]
            if known:
                plot.data = tuple(np.array(column) for column in zip(*known, strict=True))
        latencies = (
            ("image to plan", status.observation_age),
            ("encoder", status.encode_seconds),
            ("planner", status.plan_seconds),
            ("image to command", status.command_latency),
        )
        table = "".join(f"| {name} | {1e3 * value:.0f} ms |\n" for name, value in latencies)
        self._latencies.content = f"| last step | |\n|---|---:|\n{table}"


def _fitted(image: np.ndarray, most: int) -> np.ndarray:
    """An image whose longer side is at most so many pixels."""
    scale = most / max(image.shape[:2])
    if scale >= 1.0:
        return image
    height, width = (max(1, round(scale * side)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _plain(text: str) -> str:
    """A text of the network, without anything that Markdown or HTML would make more of."""
    line = " ".join(printable(text).split())
    return "".join(c if c.isalnum() or c in " .,%" else f"&#{ord(c)};" for c in line)
