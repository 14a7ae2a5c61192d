# SPDX-License-Identifier: Apache-2.0
"""The faults that the stack is measured with."""

from __future__ import annotations

import copy
import signal
import time
from array import array
from collections.abc import Callable

import numpy as np

from vjepa2_ros.faults.bench import FaultBench
from vjepa2_ros.faults.fault import CLOCK, FRANKA, SIMULATED, SLOW, TWO_HOSTS, Fault
from vjepa2_ros.msg import Command, Latent
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.ros.conversions import seconds, stamp

FOREIGN = "another-host:1:ffffffff"
"""A sender that nobody has brought up."""
LATE = 60.0
"""Age of the observation of a command that comes late [s]."""
# Sequence numbers that the planner does not come to by itself while a fault is looked at.
_AHEAD = 1000
# Time for which messages are sent again and again, and between two [s].
_FLOOD, _PERIOD = 2.0, 0.05


def _cell(
    name: str,
    switch: str,
    text: str,
    *codes: Reason,
    stack: str = SIMULATED,
    stops: bool = True,
    goes_on: bool = False,
) -> Fault:
    """A fault that the simulated cell has; see `simulation/faults.py`."""
    return Fault(
        name,
        text,
        lambda bench: bench.switch(switch, True),
        codes,
        lambda bench: bench.switch(switch, False),
        stack,
        stops,
        goes_on,
    )


def _kill(node: str) -> Callable[[FaultBench], None]:
    return lambda bench: bench.stack.send_signal(node, signal.SIGKILL)


def _hang(
    name: str, node: str, seconds: float, *codes: Reason, stack: str = SLOW, stops: bool = True
) -> Fault:
    """A process that hangs, and goes on when it is told to."""
    return Fault(
        name,
        f"{node}: SIGSTOP until 1 s after rest, at most {seconds:.0f} s, then SIGCONT",
        lambda bench: bench.stack.send_signal(node, signal.SIGSTOP),
        codes,
        lambda bench: bench.stack.send_signal(node, signal.SIGCONT),
        stack,
        stops,
        duration=seconds,
    )


def _pause(node: str, duration: float) -> Callable[[FaultBench], None]:
    def inject(bench: FaultBench) -> None:
        bench.stack.send_signal(node, signal.SIGSTOP)
        time.sleep(duration)
        bench.stack.send_signal(node, signal.SIGCONT)

    return inject


def _command(change: Callable[[Command], None]) -> Callable[[FaultBench], None]:
    """Publish the planner's last command once more, changed."""

    def inject(bench: FaultBench) -> None:
        command = copy.deepcopy(bench.observer.last_command())
        change(command)
        bench.observer.publish_command(command)

    return inject


def _next(command: Command, by: int = 1) -> None:
    command.sequence = min(command.sequence + by, 2**64 - 1)


def _late(command: Command) -> None:
    # The planner itself will use the next number: what is accepted under it could be its own.
    _next(command, _AHEAD)
    command.header.stamp = stamp(seconds(command.header.stamp) - LATE)


def far(command: Command) -> None:
    """Lead 50 cm away, beyond every limit of a step."""
    _next(command)
    command.pose.position.x += 0.5


def _not_finite(command: Command) -> None:
    _next(command)
    command.pose.position.y = float("nan")


def _of_another(command: Command) -> None:
    command.sender, command.goal_id, command.sequence = FOREIGN, "goal-of-another", 1
    command.pose.position.z -= 0.05


def _reordered(bench: FaultBench) -> None:
    """Publish an older command than the last one."""
    commands = [command for _, command in bench.observer.seen.commands]
    bench.observer.publish_command(commands[-2] if len(commands) > 1 else commands[-1])


def _latent(change: Callable[[Latent], None]) -> Callable[[FaultBench], None]:
    """Publish the last latent again and again, changed."""

    def inject(bench: FaultBench) -> None:
        end = time.monotonic() + _FLOOD
        while time.monotonic() < end:
            latent = copy.deepcopy(bench.observer.seen.latent)
            change(latent)
            bench.observer.publish_latent(latent)
            time.sleep(_PERIOD)

    return inject


def _without_numbers(latent: Latent) -> None:
    kind = "<f2" if latent.encoding == Latent.FLOAT16 else "<f4"
    numbers = np.full(latent.rows * latent.columns * latent.channels, np.nan, kind)
    latent.data = array("B", numbers.tobytes())


def _of_another_model(latent: Latent) -> None:
    latent.model = "0123456789ab"


def _blocked_gripper(bench: FaultBench) -> None:
    """Hold the fingers, and have the next goal open or close them."""
    bench.switch("gripper_blocked", True)
    bench.set_goal(gripper="close")


def _lose(share: float) -> Callable[[FaultBench], None]:
    """Lose a share of the packets between the two hosts."""

    def change(bench: FaultBench) -> None:
        assert bench.stack.cable is not None
        bench.stack.cable.lose(share)

    return change


def _jump(by: float) -> Callable[[FaultBench], None]:
    def inject(bench: FaultBench) -> None:
        assert bench.observer.clock_offset is not None
        bench.observer.clock_offset += by

    return inject


def _reflexes(count: int) -> Callable[[FaultBench], None]:
    """Reflexes one after the other, each once the arm has recovered from the one before."""

    def inject(bench: FaultBench) -> None:
        for _ in range(count):
            bench.switch("reflex", True)
            time.sleep(1.0)

    return inject


_STATE = (Reason.STATE_STALE, Reason.ROBOT_UNREADABLE)
_NO_PLANNER = (Reason.PLANNER_SILENT, Reason.CONTROLLER_HALTED, Reason.DEACTIVATED)
_NO_IMAGE = (Reason.NO_IMAGE, Reason.IMAGE_STALE)
_DOWN = Reason.DEACTIVATED
_KILLED = (
    ("encoder_node", (_DOWN,)),
    ("planner_node", _NO_PLANNER),
    ("controller_node", (_DOWN,)),
    ("lifecycle_manager", (Reason.MANAGER_SILENT, _DOWN)),
)

FAULTS: tuple[Fault, ...] = (
    # The camera: the step in execution ends, and no other begins.
    _cell("camera_frozen", "frozen", "the camera repeats its image with the old stamp", *_NO_IMAGE,
          stops=False),
    _cell("camera_gone", "gone", "no images", *_NO_IMAGE, stops=False),
    _cell("camera_slow", "slow", "one image a second: slower, nothing to notice", stops=False,
          goes_on=True),
    _cell("camera_resized", "resized", "images of half the size: scaled, nothing to notice",
          stops=False, goes_on=True),
    # Processes.
    *(
        Fault(f"{node}_killed", f"{node}: kill -9", _kill(node), codes, stack=SLOW, duration=15.0)
        for node, codes in _KILLED
    ),
    # The arm's world ends with it: nobody sees whether the arm stops.
    Fault("simulator_node_killed", "simulator_node: kill -9, which ends the arm's world",
          _kill("simulator_node"), (*_STATE, _DOWN), stack=SLOW, stops=False, duration=15.0),
    _hang("encoder_node_hangs", "encoder_node", 4.0, *_NO_IMAGE, stops=False),
    _hang("planner_node_hangs", "planner_node", 4.0, *_NO_PLANNER),
    _hang("controller_node_hangs", "controller_node", 3.0),
    _hang("lifecycle_manager_hangs", "lifecycle_manager", 4.0, Reason.MANAGER_SILENT),
    # Its world stands still with it, so that the arm is looked at afterwards.
    Fault("simulator_node_hangs", "simulator_node: SIGSTOP for 3 s, then SIGCONT",
          _pause("simulator_node", 3.0), _STATE, stack=SLOW),
    # The measured state.
    _cell("state_frozen", "state_frozen", "the robot repeats its state with the old stamp",
          *_STATE),
    _cell("state_gone", "state_gone", "no states of the robot", *_STATE),
    _cell("state_from_the_future", "state_from_the_future", "states stamped 10 s ahead",
          Reason.STATE_FROM_THE_FUTURE),
    _cell("state_not_finite", "state_not_finite", "a measured position that is not a number",
          Reason.STATE_INVALID),
    _cell("state_jumped", "state_jumped", "a measured position that is 30 cm off",
          Reason.STATE_JUMPED),
    # Latents.
    Fault("latent_not_finite", "latents that are not numbers, for 2 s", _latent(_without_numbers),
          (Reason.LATENT_INVALID,), stops=False, goes_on=True),
    Fault("latent_of_another_model", "latents of another model, for 2 s",
          _latent(_of_another_model), (Reason.LATENT_INVALID,), stops=False, goes_on=True),
    # Commands. Those in the planner's own name pass the check of the sender.
    Fault("command_duplicated", "the last command twice", _command(lambda command: None),
          (Reason.OUT_OF_SEQUENCE,), stops=False, goes_on=True),
    Fault("commands_reordered", "an older command after the last one", _reordered,
          (Reason.OUT_OF_SEQUENCE, Reason.FOREIGN_GOAL), stops=False, goes_on=True),
    Fault("command_delayed", "a command from an image of a minute ago", _command(_late),
          (Reason.STALE,), stops=False, goes_on=True),
    Fault("command_far", "a target 50 cm away", _command(far), (Reason.STEP_TOO_LARGE,)),
    Fault("command_not_finite", "a target that is not a number", _command(_not_finite),
          (Reason.NOT_FINITE,)),
    Fault("sequence_leap", "a command with the sequence number 2^64 - 1",
          _command(lambda command: _next(command, 2**64)), (Reason.OUT_OF_SEQUENCE,),
          stops=False, goes_on=True),
    Fault("second_planner", "a valid command of another process", _command(_of_another),
          (Reason.FOREIGN_SENDER,), stops=False, goes_on=True),
    # Goals.
    Fault("goal_replaced", "another goal in mid-motion", lambda bench: bench.set_goal(),
          (Reason.REPLACED, Reason.WAITING_FOR_ROBOT), stops=False, goes_on=True),
    # The clock of all nodes.
    *(
        Fault(name, f"the clock of all nodes jumps by {jump:+.0f} s", _jump(jump),
              (*_STATE, Reason.STATE_FROM_THE_FUTURE, Reason.STATE_JUMPED), stack=CLOCK)
        for name, jump in (("clock_forward", 10.0), ("clock_back", -10.0))
    ),
    # Encoder and planner on another host.
    Fault("network_cut", "the network between the two hosts is cut until 1 s after rest",
          _lose(1.0),
          _NO_PLANNER, _lose(0.0), TWO_HOSTS, duration=3.0),
    Fault("network_gone", "the network between the two hosts is cut for 12 s", _lose(1.0),
          _NO_PLANNER, _lose(0.0), TWO_HOSTS, duration=12.0, held=True),
    Fault("network_lossy", "it loses 10 % of the packets each way: slower, nothing to notice",
          _lose(0.1), (), _lose(0.0), TWO_HOSTS, stops=False, goes_on=True),
    # Behind the Franka control interface.
    Fault("reflex", "a reflex of the arm", _reflexes(1), (Reason.ROBOT_RECOVERING,), stack=FRANKA,
          goes_on=True),
    Fault("reflexes", "more reflexes than are cleared without a person", _reflexes(4),
          (Reason.ROBOT_ERROR,), stack=FRANKA, duration=15.0),
    _cell("user_stop", "user_stop", "the user stop is pressed", Reason.USER_STOPPED, stack=FRANKA),
    Fault("gripper_blocked", "something holds the fingers, and they are told to close",
          _blocked_gripper, (Reason.GRIPPER_BLOCKED,),
          lambda bench: bench.switch("gripper_blocked", False), FRANKA, stops=False),
    _cell("connection_lost", "connection_lost", "the connection to the control unit breaks",
          *_STATE, stack=FRANKA),
    _cell("states_of_the_arm_frozen", "state_frozen", "the control unit repeats its state",
          *_STATE, stack=FRANKA),
    Fault("controller_killed_with_the_arm", "controller_node: kill -9", _kill("controller_node"),
          (_DOWN,), stack=FRANKA, duration=15.0),
    _hang("controller_hangs_with_the_arm", "controller_node", 3.0, stack=FRANKA),
)  # fmt: skip
"""All faults, in the order of the table."""


def by_names(names: list[str]) -> tuple[Fault, ...]:
    """The faults of these names, or all without a name.

    Raises:
        ValueError: there is no such fault.
    """
    known = {fault.name: fault for fault in FAULTS}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    return tuple(known[name] for name in names) if names else FAULTS
