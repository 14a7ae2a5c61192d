# SPDX-License-Identifier: Apache-2.0
"""A running stack that faults are injected into, and an observer of the arm beside it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage
from std_srvs.srv import Trigger

from vjepa2_ros.execution.goal_status import TERMINAL
from vjepa2_ros.faults import motion
from vjepa2_ros.faults.fault import CLOCK, FRANKA, SLOW, TWO_HOSTS, Fault, Repeat
from vjepa2_ros.faults.network import Cable, TwoHosts
from vjepa2_ros.msg import Command, Latent, PlanningStatus, RobotState, SimulatorTruth
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.ros.context import init
from vjepa2_ros.ros.conversions import stamp
from vjepa2_ros.ros.qos import COMMAND, LATCHED, LATEST, STREAM
from vjepa2_ros.settings.stack import managed_nodes
from vjepa2_ros.simulation.simulator import DOWN, Simulator
from vjepa2_ros.srv import InjectFault, SetGoal
from vjepa2_ros.stack.client import compressed_image
from vjepa2_ros.stack.process_group import ProcessGroup, ProcessGroupError
from vjepa2_ros.stack.start import start_stack
from vjepa2_ros.tasks import load_task
from vjepa2_ros.tasks.task import TaskOptions, draw_episode

FRANKA_ADDRESS = "127.0.13.37"
"""Where the simulated cell serves the Franka control interface."""
SEED = 2
"""A scene that starts high above the table, where steps in any direction meet nothing."""
GOALS = ((0.42, -0.18, 0.30), (0.58, 0.18, 0.30))
"""Places of the hand in the goal pictures, taken in turn [m]."""
STEPS = 60
"""Steps of a goal."""
NAMESPACE = "/vjepa2"
STARTS = 3
"""Attempts to start a stack: after a kill -9 the middleware sometimes fails at the next start."""
ATTEMPTS = 2
"""Attempts at a repeat in which something went wrong beside the fault."""
SLOW_SPEED = 0.04
"""Speed of the arm where one step has to last longer than the planner may be silent [m/s]."""
STARTING = 120.0
"""Longest wait for what comes without a fault [s]."""
RESUMING = 12.0
"""Longest wait for a command to be accepted after a fault was ended [s]."""
# Shortest time to look on after the arm has come to rest and the fault was noticed [s].
_AFTER = 1.0


class FaultBenchError(RuntimeError):
    """The stack did not do what it does without a fault; the text says what."""


@dataclass
class Observations:
    """What was received, with the times of receipt [s, steady].

    Attributes:
        times, positions: of the true pose of the arm.
        states, statuses, commands: messages.
        foreign: number of messages that the controller has ignored for their sender.
    """

    times: list[float] = field(default_factory=list)
    positions: list[np.ndarray] = field(default_factory=list)
    states: list[tuple[float, RobotState]] = field(default_factory=list)
    statuses: list[tuple[float, PlanningStatus]] = field(default_factory=list)
    commands: list[tuple[float, Command]] = field(default_factory=list)
    foreign: list[tuple[float, int]] = field(default_factory=list)
    latent: Latent | None = None


def parameters(kind: str) -> dict[str, dict[str, Any]]:
    """Parameters of the nodes of a kind of stack, by node."""
    simulator: dict[str, Any] = {"seed": SEED}
    controller: dict[str, Any] = {}
    planner: dict[str, Any] = {"patience": 0}
    if kind in (SLOW, TWO_HOSTS):
        simulator["max_speed"] = SLOW_SPEED
        planner["step_duration"] = 10.0
    elif kind == FRANKA:
        simulator["franka_server"] = FRANKA_ADDRESS
        controller = {
            "robot": "franka",
            "franka.host": FRANKA_ADDRESS,
            "franka.realtime": False,
            "franka.tool_offset": [0.0, 0.0, 0.05],
        }
    nodes = {"simulator_node": simulator, "controller_node": controller, "planner_node": planner}
    if kind == CLOCK:
        for name in managed_nodes("simulation"):
            nodes.setdefault(name, {})["use_sim_time"] = True
    return nodes


class FaultBench:
    """Starts stacks, sets goals, injects faults and measures. A context manager.

    Args:
        log: file for the output of the nodes.
        two_hosts: make a second host, for stacks of the kind TWO_HOSTS. The middleware looks for
            the network's interfaces once in a process, and then not again.

    Raises:
        NetworkError: there can be no second host.

    Attributes:
        cable: to the second host; None without one.
        seen: what was received since the last injection and a little before.
        failed_starts: number of stacks that did not come up.
        failed_repeats: number of repeats that had to be made again.
        clock_offset: what the clock of a stack of the kind CLOCK is ahead by [s].
    """

    def __init__(self, log: Path, two_hosts: bool = False) -> None:
        self._log = open(log, "a", encoding="utf-8")
        self.cable = Cable() if two_hosts else None
        self._group: ProcessGroup | None = None
        self._kind = ""
        self._ended: tuple[float, str] | None = None
        self._goal = self.failed_starts = self.failed_repeats = 0
        # Commands of the planner, and those beside it: goal and sequence number.
        self._sent: set[tuple[str, int]] = set()
        self._injected: set[tuple[str, int]] = set()
        self.goal_id = ""
        self.seen = Observations()
        self._pictures = _goal_pictures()
        self._context = Context()
        init(context=self._context)
        self._node = rclpy.create_node("faults", namespace=NAMESPACE, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._clients: dict[str, Any] = {}
        listeners: tuple[tuple[type, str, Callable, Any], ...] = (
            (SimulatorTruth, "simulator/truth", self._on_truth, STREAM),
            (RobotState, "robot_state", self._on_state, STREAM),
            (PlanningStatus, "status", self._on_status, LATCHED),
            (Command, "command", self._on_command, COMMAND),
            (Latent, "latent", self._on_latent, LATEST),
            (DiagnosticArray, "/diagnostics", self._on_diagnostics, 50),
        )
        for kind, topic, keep, qos in listeners:
            self._node.create_subscription(kind, topic, keep, qos)
        self._commands = self._node.create_publisher(Command, "command", COMMAND)
        self._latents = self._node.create_publisher(Latent, "latent", LATEST)
        self._clock = self._node.create_publisher(Clock, "/clock", 10)
        self.clock_offset = 0.0
        self._node.create_timer(0.01, self._publish_clock)
        self._closing = False
        self._thread = threading.Thread(target=self._spin, name="faults", daemon=True)
        self._thread.start()

    def __enter__(self) -> FaultBench:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_stack()
        if self.cable is not None:
            self.cable.close()
        self._closing = True
        self._thread.join()
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()
        self._log.close()

    # A repeat -------------------------------------------------------------------------------

    def measure(self, fault: Fault) -> Repeat:
        """Bring the arm into motion, inject a fault, look on, end it, and go on.

        Raises:
            FaultBenchError: something went wrong beside the fault, also at the second attempt.
            ProcessGroupError: the stack could not be started.
        """
        for _ in range(ATTEMPTS - 1):
            try:
                return self._measure(fault)
            except FaultBenchError as error:
                self._on_line("faults", f"{fault.name} is measured again: {error}")
                self.failed_repeats += 1
                self._stop_stack()
        return self._measure(fault)

    def _measure(self, fault: Fault) -> Repeat:
        self.ensure(fault.stack)
        self._begin_motion()
        accepted = self._accepted()
        self._injected.clear()
        begun = time.monotonic()
        try:
            fault.inject(self)
            self._look_on(fault, begun)
        finally:
            fault.end(self)
        noticed, code = self._noticed(fault, begun)
        rest, distance = self._rest(fault, begun)
        if fault.goes_on:
            after = len(self._taken(begun) & self._injected)
        else:
            since = begun if noticed is None else noticed
            after = len(self._taken(since) - {accepted, self._accepted_at(since)})
        resumes = self._resume()
        return Repeat(
            None if noticed is None else noticed - begun,
            None if rest is None else rest - begun,
            distance,
            after,
            code,
            resumes,
        )

    def _look_on(self, fault: Fault, begun: float) -> None:
        """Wait until all is over, but not longer than the fault's time."""
        deadline = begun + fault.duration
        over = None
        while time.monotonic() < deadline:
            time.sleep(0.05)
            self.check()
            noticed, _ = self._noticed(fault, begun)
            rest, _ = self._rest(fault, begun)
            if noticed is None or (rest is None and fault.stops):
                over = None
            elif over is None:
                over = time.monotonic()
            elif time.monotonic() - over > _AFTER:
                return

    def _noticed(self, fault: Fault, since: float) -> tuple[float | None, str]:
        """When and by which code the fault was noticed."""
        found: list[tuple[float, str]] = []
        for received, state in self._since(self.seen.states, since):
            for value in (state.fault_reason, state.reason, state.refused_reason):
                if Reason.of(value) in fault.codes:
                    found.append((received, Reason.of(value).name))
                    break
        for received, status in self._since(self.seen.statuses, since):
            if Reason.of(status.reason) in fault.codes:
                found.append((received, Reason.of(status.reason).name))
        if Reason.FOREIGN_SENDER in fault.codes:
            before = max((count for at, count in self.seen.foreign if at < since), default=0)
            for received, count in self._since(self.seen.foreign, since):
                if count > before:
                    found.append((received, Reason.FOREIGN_SENDER.name))
        if self._ended is not None:
            found.append((self._ended[0], "stack ended"))
        return min(found, default=(None, ""))

    def _rest(self, fault: Fault, begun: float) -> tuple[float | None, float]:
        return motion.rest(
            self.seen.times.copy(), self.seen.positions.copy(), begun, not fault.goes_on
        )

    def _taken(self, since: float) -> set[tuple[str, int]]:
        """Goals and sequence numbers of the commands that the controller named after a time."""
        return {(s.goal_id, s.sequence) for _, s in self._since(self.seen.states, since)}

    def _accepted_at(self, when: float) -> tuple[str, int]:
        """The last command that was accepted before a time."""
        before = [state for received, state in list(self.seen.states) if received <= when]
        return (before[-1].goal_id, before[-1].sequence) if before else ("", 0)

    @staticmethod
    def _since(messages: Sequence[tuple[float, Any]], since: float) -> list[tuple[float, Any]]:
        return [(received, message) for received, message in list(messages) if received >= since]

    def _resume(self) -> str:
        """What it takes to move again: nothing, a goal, a reset, or a restart."""
        self.check()
        if self._ended is not None:
            self._stop_stack()
            return "restart"
        if not self.is_over() and self._takes_commands():
            return "by itself"
        for what, before in (("new goal", lambda: None), ("reset_fault, new goal", self.reset)):
            before()
            self.set_goal(check=False)
            if self._takes_commands():
                return what
        self._stop_stack()
        return "restart"

    def _takes_commands(self) -> bool:
        """Whether another command is accepted within the time for it."""
        before = self._accepted()
        deadline = time.monotonic() + RESUMING
        while time.monotonic() < deadline:
            time.sleep(0.05)
            self.check()
            if self._ended is not None:
                return False
            if self._accepted() != before:
                return True
        return False

    # For faults -----------------------------------------------------------------------------

    def switch(self, fault: str, active: bool) -> None:
        """Begin or end a fault of the simulated cell; see `simulation/faults.py`.

        Raises:
            FaultBenchError: the cell refuses it.
        """
        request = InjectFault.Request(fault=fault, active=active)
        answer = self._call(InjectFault, "simulator/inject_fault", request)
        if answer is None or not answer.success:
            raise FaultBenchError(
                f"the cell does not {'begin' if active else 'end'} {fault}: "
                f"{answer.message if answer else 'no answer'}"
            )

    def send_signal(self, node: str, number: int) -> None:
        """Send a signal to the process of a node."""
        assert self._group is not None
        self._group.processes[node].send(number)

    def last_command(self) -> Command:
        """The last command of the planner."""
        return self.seen.commands[-1][1]

    def publish_command(self, command: Command) -> None:
        """Publish a command beside the planner's."""
        if (command.goal_id, command.sequence) not in self._sent:
            self._injected.add((command.goal_id, command.sequence))
        self._commands.publish(command)

    def publish_latent(self, latent: Latent) -> None:
        """Publish a latent beside the encoder's."""
        self._latents.publish(latent)

    def trigger(self, name: str) -> bool:
        """Call a service without arguments, such as `stop`; whether it says that it was done."""
        answer = self._call(Trigger, name, Trigger.Request())
        return answer is not None and answer.success

    def processes(self) -> dict[str, int]:
        """Numbers of the processes of the stack, by node."""
        assert self._group is not None
        return {name: process.popen.pid for name, process in self._group.processes.items()}

    @property
    def planned(self) -> int:
        """Number of commands of the planner since the bench was made."""
        return len(self._sent)

    # The stack ------------------------------------------------------------------------------

    @property
    def ended(self) -> str:
        """Why the stack has ended; empty while it runs."""
        return self._ended[1] if self._ended is not None else ""

    def ensure(self, kind: str) -> None:
        """Have a stack of a kind that runs and is ready for a goal."""
        self.check()
        if self._ended is not None or self._kind != kind:
            self._stop_stack()
        if self._group is not None:
            self.reset()
            return
        for attempt in range(STARTS):
            try:
                self._start(kind)
                return
            except (ProcessGroupError, FaultBenchError) as error:
                self._on_line("faults", f"the stack did not start: {error}")
                self.failed_starts += 1
                self._stop_stack()
                if attempt == STARTS - 1:
                    raise

    def _start(self, kind: str) -> None:
        self._ended, self._kind, self.clock_offset = None, kind, 0.0
        self.seen = Observations()
        if self.cable is not None:
            self._group = TwoHosts(self.cable, on_line=self._on_line)
        else:
            self._group = ProcessGroup(on_line=self._on_line)
        start_stack(self._group, managed_nodes("simulation"), parameters(kind), NAMESPACE)
        self._wait(
            lambda: self.seen.latent is not None and self.seen.states and self.seen.times,
            "the stack sends no states, truth or latents",
        )

    def _stop_stack(self) -> None:
        if self._group is not None:
            for process in self._group.processes.values():
                # A process that was stopped does not take a SIGTERM.
                process.send(signal.SIGCONT)
            self._group.stop()
        self._group, self._kind = None, ""

    def check(self) -> None:
        """Note when a process of the stack has ended or hangs."""
        if self._group is None or self._ended is not None:
            return
        try:
            self._group.check()
        except ProcessGroupError as error:
            self._ended = time.monotonic(), str(error).splitlines()[0]

    def _begin_motion(self) -> None:
        """Set a goal and wait until the arm is in the middle of a motion."""
        deadline = time.monotonic() + STARTING
        while time.monotonic() < deadline:
            self.set_goal(check=False)
            begun = time.monotonic()
            while time.monotonic() < begun + 10.0:
                time.sleep(0.02)
                self.check()
                if self._ended is not None:
                    raise FaultBenchError(f"the stack ended before the fault: {self._ended[1]}")
                if self._is_moving() and self.seen.states[-1][1].goal_id == self.goal_id:
                    # Only what comes now belongs to the fault.
                    self.trim()
                    return
            self.reset()
        raise FaultBenchError("the arm does not move")

    def trim(self) -> None:
        """Forget what is older than a second."""
        since = time.monotonic() - 1.0
        old, new = self.seen, Observations(latent=self.seen.latent)
        first = int(np.searchsorted(old.times, since))
        new.times, new.positions = old.times[first:], old.positions[first:]
        new.states = self._since(old.states, since)
        new.statuses = self._since(old.statuses, since)
        new.commands, new.foreign = old.commands[-3:], old.foreign[-3:]
        self.seen = new

    def _is_moving(self) -> bool:
        """Whether the arm is fast, by its true pose."""
        times, positions = self.seen.times[-20:], self.seen.positions[-20:]
        if len(times) < 10 or not self.seen.states or not self.seen.states[-1][1].moving:
            return False
        speed = motion.speeds(np.array(times), np.array(positions))[-1]
        slow = self._kind in (SLOW, TWO_HOSTS)
        return bool(speed > (0.5 * SLOW_SPEED if slow else 0.08))

    def _accepted(self) -> tuple[str, int]:
        if not self.seen.states:
            return "", 0
        state = self.seen.states[-1][1]
        return state.goal_id, state.sequence

    def is_over(self) -> bool:
        """Whether the goal is over, or its controller has a fault."""
        if self.seen.states and self.seen.states[-1][1].fault_reason:
            return True
        return bool(self.seen.statuses) and self.seen.statuses[-1][1].state in TERMINAL

    def set_goal(self, gripper: str = "open", check: bool = True) -> None:
        """Set the next goal, also while the arm moves.

        Raises:
            FaultBenchError: with `check`, it was not accepted.
        """
        self._goal += 1
        picture = self._pictures[self._goal % len(self._pictures)]
        request = SetGoal.Request(images=[picture], steps=[STEPS], gripper=[gripper])
        answer = self._call(SetGoal, "set_goal", request)
        if answer is not None and answer.accepted:
            self.goal_id = answer.goal_id
        elif check:
            text = answer.message if answer is not None else "no answer"
            raise FaultBenchError(f"the goal was not accepted: {text}")

    def reset(self) -> None:
        """Reset a fault and wait until the robot reports none."""
        self._call(Trigger, "reset_fault", Trigger.Request())
        deadline = time.monotonic() + RESUMING
        while time.monotonic() < deadline:
            if self.seen.states:
                state = self.seen.states[-1][1]
                if not state.fault_reason and state.mode == RobotState.READY:
                    return
            time.sleep(0.05)

    def _call(self, service: type, name: str, request: Any, timeout: float = 6.0) -> Any:
        """Answer of a service; None if there was none in time."""
        if name not in self._clients:
            self._clients[name] = self._node.create_client(service, name)
            # The other side must have found this client, too.
            self._clients[name].wait_for_service(timeout)
            time.sleep(0.5)
        client = self._clients[name]
        if not client.wait_for_service(timeout):
            return None
        done = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        if not done.wait(timeout):
            client.remove_pending_request(future)
            return None
        return future.result()

    def _wait(self, condition: Callable[[], Any], late: str) -> None:
        deadline = time.monotonic() + STARTING
        while not condition():
            self.check()
            if self._ended is not None:
                raise FaultBenchError(self._ended[1])
            if time.monotonic() > deadline:
                raise FaultBenchError(late)
            time.sleep(0.05)

    # Receiving ------------------------------------------------------------------------------

    def _publish_clock(self) -> None:
        if self._kind == CLOCK:
            self._clock.publish(Clock(clock=stamp(time.time() + self.clock_offset)))

    def _spin(self) -> None:
        while not self._closing:
            self._executor.spin_once(timeout_sec=0.1)

    def _on_truth(self, message: SimulatorTruth) -> None:
        hand = message.hand
        self.seen.positions.append(np.array([hand.x, hand.y, hand.z]))
        self.seen.times.append(time.monotonic())

    def _on_state(self, message: RobotState) -> None:
        self.seen.states.append((time.monotonic(), message))

    def _on_status(self, message: PlanningStatus) -> None:
        self.seen.statuses.append((time.monotonic(), message))

    def _on_command(self, message: Command) -> None:
        if (message.goal_id, message.sequence) not in self._injected:
            self._sent.add((message.goal_id, message.sequence))
        self.seen.commands.append((time.monotonic(), message))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {entry.key: entry.value for entry in status.values}
            if status.name == f"{NAMESPACE}/controller_node" and "foreign_messages" in values:
                self.seen.foreign.append((time.monotonic(), int(values["foreign_messages"])))

    def _on_latent(self, message: Latent) -> None:
        self.seen.latent = message

    def _on_line(self, name: str, line: str) -> None:
        # A full disk must not end a measurement of an hour.
        with suppress(OSError, ValueError):
            self._log.write(f"[{name}] {line}\n")
            self._log.flush()


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
