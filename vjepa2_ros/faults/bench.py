# SPDX-License-Identifier: Apache-2.0
"""Brings the arm of a stack into motion, injects a fault, and measures what comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage
from std_srvs.srv import Trigger

from vjepa2_ros.execution.goal_status import TERMINAL
from vjepa2_ros.faults import evidence, motion
from vjepa2_ros.faults.fault import CLOCK, SLOW, TWO_HOSTS, Fault, Repeat
from vjepa2_ros.faults.observer import Observations, Observer
from vjepa2_ros.faults.stack import NAMESPACE, SEED, SLOW_SPEED, FaultStack
from vjepa2_ros.msg import RobotState
from vjepa2_ros.ros.conversions import compressed_image
from vjepa2_ros.simulation.simulator import DOWN, Simulator
from vjepa2_ros.srv import InjectFault, SetGoal
from vjepa2_ros.stack.process_group import ProcessGroupError
from vjepa2_ros.tasks import load_task
from vjepa2_ros.tasks.task import TaskOptions, draw_episode

GOALS = ((0.42, -0.18, 0.30), (0.58, 0.18, 0.30))
"""Places of the hand in the goal pictures, taken in turn [m]."""
STEPS = 60
"""Steps of a goal."""
STARTS = 3
"""Attempts to start a stack: after a kill -9 the middleware sometimes fails at the next start."""
ATTEMPTS = 2
"""Attempts at a repeat in which something went wrong before the injection."""
STARTING = 120.0
"""Longest wait for what comes without a fault [s]."""
RESUMING = 12.0
"""Longest wait for a command to be accepted after a fault was ended [s]."""
# Time in which a goal that is refused after a fault is set again [s].
_PATIENCE = 2.0
# Shortest time to look on after the arm has come to rest and the fault was noticed [s].
_AFTER = 1.0
# Time for the nodes of a new stack to find the clients, after these have found them [s].
_DISCOVERY = 0.5


class FaultBenchError(RuntimeError):
    """The stack did not do what it does without a fault; the text says what."""


class NotInjectedError(FaultBenchError):
    """The cell has not begun a fault; the text says why."""


class FaultBench:
    """Sets goals, injects faults and measures. A context manager.

    Args:
        stack: that faults are injected into.

    Attributes:
        stack, observer: of it.
        failed_starts: number of stacks that did not come up.
        failed_repeats: number of repeats that had to be made again.
    """

    def __init__(self, stack: FaultStack) -> None:
        self.stack = stack
        self.observer = Observer(NAMESPACE)
        self.failed_starts = self.failed_repeats = 0
        self.goal_id = ""
        self._goals = 0
        # When the cell was asked for the first of the faults of a repeat [s, steady].
        self._asked: float | None = None
        self._pictures = _goal_pictures()

    @property
    def _seen(self) -> Observations:
        return self.observer.seen

    def __enter__(self) -> FaultBench:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()
        self.observer.close()

    # A repeat -------------------------------------------------------------------------------

    def measure(self, fault: Fault) -> Repeat:
        """Bring the arm into motion, inject a fault, look on, end it, and go on.

        Raises:
            FaultBenchError: something went wrong before the injection, also at the second attempt.
            ProcessGroupError: the stack could not be started.
        """
        for again in range(ATTEMPTS - 1):
            try:
                return self._measure(fault, again)
            except FaultBenchError as error:
                self.stack.note("faults", f"{fault.name} is measured again: {error}")
                self.failed_repeats += 1
                self.stack.stop()
        return self._measure(fault, ATTEMPTS - 1)

    def _measure(self, fault: Fault, again: int) -> Repeat:
        self.ensure(fault.stack)
        self.begin_motion()
        accepted = self.observer.accepted()
        self.observer.injected.clear()
        begun, problem = self._undergo(fault)
        noticed, code = self._noticed(fault, begun)
        rest, distance = self._rest(fault, begun)
        if fault.goes_on:
            after = len(self.observer.accepted_since(begun) & self.observer.injected)
            after += evidence.accepted_again(list(self._seen.accepted), begun)
        else:
            from_then = begun if noticed is None else noticed
            named = self.observer.accepted_since(from_then)
            after = len(named - {accepted, self.observer.accepted_at(from_then)})
        if problem:
            self.stack.note("faults", f"{fault.name}: {problem}")
            self.stack.stop()
        resumes = "restart" if problem else self._resume()
        return Repeat(
            None if noticed is None else noticed - begun,
            None if rest is None else rest - begun,
            distance,
            after,
            code,
            resumes,
            again,
        )

    def _undergo(self, fault: Fault) -> tuple[float, str]:
        """Inject a fault, look on, and end it.

        Returns:
            When it began [s, steady], and what failed from then on, which is an outcome of it.

        Raises:
            NotInjectedError: it did not begin.
        """
        self._asked, problems = None, []
        begun = time.monotonic()
        try:
            fault.inject(self)
            begun = begun if self._asked is None else self._asked
            self._look_on(fault, begun)
        except NotInjectedError:
            raise
        except FaultBenchError as error:
            problems.append(str(error))
        try:
            fault.end(self)
        except FaultBenchError as error:
            problems.append(str(error))
        return begun, "; ".join(problems)

    def _look_on(self, fault: Fault, begun: float) -> None:
        """Wait until all is over, but not longer than the fault's time."""
        deadline = begun + fault.duration
        over = None
        while time.monotonic() < deadline:
            time.sleep(0.05)
            self.stack.check()
            noticed, _ = self._noticed(fault, begun)
            rest, _ = self._rest(fault, begun)
            if noticed is None or (rest is None and fault.stops):
                over = None
            elif over is None:
                over = time.monotonic()
            elif not fault.held and time.monotonic() - over > _AFTER:
                return

    def _noticed(self, fault: Fault, begun: float) -> tuple[float | None, str]:
        """When and by which code the fault was noticed."""
        found = evidence.notices(fault.codes, self._seen, begun)
        if self.stack.ended is not None:
            found.append((self.stack.ended[0], "stack ended"))
        return min(found, default=(None, ""))

    def _rest(self, fault: Fault, begun: float) -> tuple[float | None, float | None]:
        return self.observer.rest(begun, last=not fault.goes_on)

    def _resume(self) -> str:
        """What it takes to move again: nothing, a goal, a reset, or a restart."""
        self.stack.check()
        if self.stack.ended is not None:
            self.stack.stop()
            return "restart"
        if not self.is_over() and self._takes_commands():
            return "by itself"
        for what, before in (("new goal", lambda: None), ("reset_fault, new goal", self.reset)):
            before()
            if self._sets_goal() and self._takes_commands():
                return what
        self.stack.stop()
        return "restart"

    def _sets_goal(self) -> bool:
        """Whether a goal is accepted, as by a person who tries again when it is refused."""
        deadline = time.monotonic() + _PATIENCE
        while not (accepted := self.set_goal(check=False)) and time.monotonic() < deadline:
            time.sleep(0.2)
        return accepted

    def _takes_commands(self) -> bool:
        """Whether another command is accepted within the time for it."""
        before = self.observer.accepted()
        deadline = time.monotonic() + RESUMING
        while time.monotonic() < deadline:
            time.sleep(0.05)
            self.stack.check()
            if self.stack.ended is not None:
                return False
            if self.observer.accepted() != before:
                return True
        return False

    # For faults -----------------------------------------------------------------------------

    def switch(self, fault: str, active: bool) -> None:
        """Begin or end a fault of the simulated cell; see `simulation/faults.py`.

        Raises:
            NotInjectedError: the cell was not there or refuses to begin it, the first of a repeat.
            FaultBenchError: it does not do it otherwise.
        """
        request = InjectFault.Request(fault=fault, active=active)
        answer = self.observer.call("simulator/inject_fault", request)
        refused = answer is not None and not answer.success
        if active and self._asked is None and not refused:
            self._asked = self.observer.requested
        if answer is None or refused:
            kind = NotInjectedError if active and self._asked is None else FaultBenchError
            raise kind(
                f"the cell does not {'begin' if active else 'end'} {fault}: "
                f"{answer.message if answer else 'no answer'}"
            )

    def trigger(self, name: str) -> bool:
        """Call a service without arguments, such as `stop`; whether it says that it was done."""
        answer = self.observer.call(name, Trigger.Request())
        return answer is not None and answer.success

    # The stack ------------------------------------------------------------------------------

    def ensure(self, kind: str) -> None:
        """Have a stack of a kind that runs and is ready for a goal."""
        self.stack.check()
        if self.stack.ended is not None or self.stack.kind != kind:
            self.stack.stop()
        if self.stack.running:
            self.reset()
            return
        for attempt in range(STARTS):
            try:
                self._start(kind)
                return
            except (ProcessGroupError, FaultBenchError) as error:
                self.stack.note("faults", f"the stack did not start: {error}")
                self.failed_starts += 1
                self.stack.stop()
                if attempt == STARTS - 1:
                    raise

    def _start(self, kind: str) -> None:
        self.observer.renew()
        self.observer.clock_offset = 0.0 if kind == CLOCK else None
        self.stack.start(kind)
        self._wait(
            lambda: self._seen.latent is not None and self._seen.states and self._seen.truth,
            "the stack sends no states, truth or latents",
        )
        self._wait(self.observer.has_services, "the stack does not have all services")
        time.sleep(_DISCOVERY)

    def begin_motion(self) -> None:
        """Set a goal and wait until the arm is in the middle of a motion.

        Raises:
            FaultBenchError: the stack ended, or the arm does not move.
        """
        deadline = time.monotonic() + STARTING
        while time.monotonic() < deadline:
            self.set_goal(check=False)
            begun = time.monotonic()
            while time.monotonic() < begun + 10.0:
                time.sleep(0.02)
                self.stack.check()
                if self.stack.ended is not None:
                    text = self.stack.ended[1]
                    raise FaultBenchError(f"the stack ended before the fault: {text}")
                if self._is_moving() and self._seen.states[-1][1].goal_id == self.goal_id:
                    # Only what comes now belongs to the fault.
                    self.observer.trim()
                    return
            self.reset()
        raise FaultBenchError("the arm does not move")

    def _is_moving(self) -> bool:
        """Whether the arm is fast, by its true pose."""
        truth = self._seen.truth[-20:]
        if len(truth) < 10 or not self._seen.states or not self._seen.states[-1][1].moving:
            return False
        times = np.array([at for at, _ in truth])
        speed = motion.speeds(times, np.array([position for _, position in truth]))[-1]
        slow = self.stack.kind in (SLOW, TWO_HOSTS)
        return bool(speed > (0.5 * SLOW_SPEED if slow else 0.08))

    def is_over(self) -> bool:
        """Whether the goal is over, or its controller has a fault."""
        if self._seen.states and self._seen.states[-1][1].fault_reason:
            return True
        return bool(self._seen.statuses) and self._seen.statuses[-1][1].state in TERMINAL

    def set_goal(self, gripper: str = "open", check: bool = True) -> bool:
        """Set the next goal, also while the arm moves; returns whether it was accepted.

        Raises:
            FaultBenchError: with `check`, it was not accepted.
        """
        self._goals += 1
        picture = self._pictures[self._goals % len(self._pictures)]
        request = SetGoal.Request(images=[picture], steps=[STEPS], gripper=[gripper])
        answer = self.observer.call("set_goal", request)
        if answer is not None and answer.accepted:
            self.goal_id = answer.goal_id
        elif check:
            text = answer.message if answer is not None else "no answer"
            raise FaultBenchError(f"the goal was not accepted: {text}")
        return answer is not None and answer.accepted

    def reset(self) -> None:
        """Reset a fault and wait until the robot reports none."""
        self.observer.call("reset_fault", Trigger.Request())
        deadline = time.monotonic() + RESUMING
        while time.monotonic() < deadline:
            if self._seen.states:
                state = self._seen.states[-1][1]
                if not state.fault_reason and state.mode == RobotState.READY:
                    return
            time.sleep(0.05)

    def _wait(self, condition: Callable[[], Any], late: str) -> None:
        deadline = time.monotonic() + STARTING
        while not condition():
            self.stack.check()
            if self.stack.ended is not None:
                raise FaultBenchError(self.stack.ended[1])
            if time.monotonic() > deadline:
                raise FaultBenchError(late)
            time.sleep(0.05)


def _goal_pictures() -> list[CompressedImage]:
    """Pictures of the hand at the goals, in the scene of the stack."""
    simulator = Simulator()
    draw_episode(load_task("reach"), simulator, SEED, TaskOptions())
    pictures = []
    for place in GOALS:
        simulator.place(np.array(place), DOWN, 0.0)
        _, data = cv2.imencode(".png", cv2.cvtColor(simulator.render(), cv2.COLOR_RGB2BGR))
        pictures.append(compressed_image(data.tobytes()))
    return pictures
