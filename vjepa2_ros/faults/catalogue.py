# SPDX-License-Identifier: Apache-2.0
"""The faults that the stack is measured with."""

from __future__ import annotations

import copy
import signal
import time
from array import array
from collections.abc import Callable
from functools import partial

import numpy as np

from vjepa2_ros.faults.bench import FaultBench
from vjepa2_ros.faults.fault import FRANKA, SLOW, Fault
from vjepa2_ros.msg import Command, Latent
from vjepa2_ros.robot.reason import Reason
from vjepa2_ros.ros.conversions import seconds, stamp

FOREIGN = "another-host:1:ffffffff"
"""A sender that nobody has brought up."""
LATE = 60.0
"""Age of the observation of a command that comes late [s]."""
_PAUSE = 3.0
# Time for which messages are sent again and again, and between two [s].
_FLOOD, _PERIOD = 2.0, 0.05


def _cell(name: str) -> dict[str, Callable[[FaultBench], None]]:
    """A fault of the simulated cell."""
    return {
        "inject": lambda bench: bench.switch(name, True),
        "end": lambda bench: bench.switch(name, False),
    }


def _kill(node: str) -> Callable[[FaultBench], None]:
    return lambda bench: bench.send_signal(node, signal.SIGKILL)


def _stop(node: str) -> dict[str, Callable[[FaultBench], None]]:
    """A process that hangs, and goes on when it is told to."""
    return {
        "inject": lambda bench: bench.send_signal(node, signal.SIGSTOP),
        "end": lambda bench: bench.send_signal(node, signal.SIGCONT),
    }


def _command(change: Callable[[Command], None]) -> Callable[[FaultBench], None]:
    """Publish the planner's last command once more, changed."""

    def inject(bench: FaultBench) -> None:
        command = copy.deepcopy(bench.last_command())
        change(command)
        bench.publish_command(command)

    return inject


def _next(command: Command, by: int = 1) -> None:
    command.sequence = min(command.sequence + by, 2**64 - 1)


def _late(command: Command) -> None:
    _next(command)
    command.header.stamp = stamp(seconds(command.header.stamp) - LATE)


def _far(command: Command) -> None:
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
    commands = [command for _, command in bench.seen.commands]
    bench.publish_command(commands[-2] if len(commands) > 1 else commands[-1])


def _latent(change: Callable[[Latent], None]) -> Callable[[FaultBench], None]:
    """Publish the last latent again and again, changed."""

    def inject(bench: FaultBench) -> None:
        end = time.monotonic() + _FLOOD
        while time.monotonic() < end:
            latent = copy.deepcopy(bench.seen.latent)
            change(latent)
            bench.publish_latent(latent)
            time.sleep(_PERIOD)

    return inject


def _without_numbers(latent: Latent) -> None:
    kind = "<f2" if latent.encoding == Latent.FLOAT16 else "<f4"
    numbers = np.full(latent.rows * latent.columns * latent.channels, np.nan, kind)
    latent.data = array("B", numbers.tobytes())


def _of_another_model(latent: Latent) -> None:
    latent.model = "0123456789ab"


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
_DOWN = (Reason.DEACTIVATED,)

FAULTS: tuple[Fault, ...] = (
    # The camera: the step in execution ends, and no other begins.
    Fault("camera_frozen", "the camera repeats its image with the old stamp", codes=_NO_IMAGE,
          stops=False, **_cell("frozen")),
    Fault("camera_gone", "no images", codes=_NO_IMAGE, stops=False, **_cell("gone")),
    Fault("camera_slow", "one image a second: slower, nothing to notice", stops=False,
          goes_on=True, **_cell("slow")),
    Fault("camera_resized", "images of half the size: scaled, nothing to notice", stops=False,
          goes_on=True, **_cell("resized")),
    # Processes.
    *(
        Fault(f"{node}_killed", f"{node}: kill -9", partial(_kill(node)), codes, stack=stack,
              duration=15.0)
        for node, codes, stack in (
            ("encoder_node", _DOWN, SLOW),
            ("planner_node", _NO_PLANNER, SLOW),
            ("controller_node", _DOWN, SLOW),
            ("lifecycle_manager", (Reason.MANAGER_SILENT, *_DOWN), SLOW),
            ("simulator_node", (*_STATE, *_DOWN), SLOW),
        )
    ),
    *(
        Fault(f"{node}_hangs", f"{node}: SIGSTOP for {seconds_:.0f} s, then SIGCONT", codes=codes,
              stack=SLOW, duration=seconds_, stops=stops, **_stop(node))
        for node, codes, stops, seconds_ in (
            ("encoder_node", _NO_IMAGE, False, 4.0),
            ("planner_node", _NO_PLANNER, True, 4.0),
            ("controller_node", (), True, 3.0),
            ("lifecycle_manager", (Reason.MANAGER_SILENT,), True, 4.0),
            ("simulator_node", _STATE, True, 3.0),
        )
    ),
    # The measured state.
    Fault("state_frozen", "the robot repeats its state with the old stamp", codes=_STATE,
          **_cell("state_frozen")),
    Fault("state_gone", "no states of the robot", codes=_STATE, **_cell("state_gone")),
    Fault("state_from_the_future", "states stamped 10 s ahead",
          codes=(Reason.STATE_FROM_THE_FUTURE,), **_cell("state_from_the_future")),
    Fault("state_not_finite", "a measured position that is not a number",
          codes=(Reason.STATE_INVALID,), **_cell("state_not_finite")),
    Fault("state_jumped", "a measured position that is 30 cm off", codes=(Reason.STATE_JUMPED,),
          **_cell("state_jumped")),
    # Latents.
    Fault("latent_not_finite", "latents that are not numbers, for 2 s", _latent(_without_numbers),
          (Reason.LATENT_INVALID,), stops=False, goes_on=True),
    Fault("latent_of_another_model", "latents of another model, for 2 s",
          _latent(_of_another_model), (Reason.LATENT_INVALID,), stops=False, goes_on=True),
    # Commands. Those of the planner's own name pass the check of the sender.
    Fault("command_duplicated", "the last command twice", _command(lambda command: None),
          (Reason.OUT_OF_SEQUENCE,), stops=False, goes_on=True),
    Fault("commands_reordered", "an older command after the last one", _reordered,
          (Reason.OUT_OF_SEQUENCE,), stops=False, goes_on=True),
    Fault("command_delayed", "a command from an image of a minute ago", _command(_late),
          (Reason.STALE,), stops=False, goes_on=True),
    Fault("command_far", "a target 50 cm away", _command(_far), (Reason.STEP_TOO_LARGE,)),
    Fault("command_not_finite", "a target that is not a number", _command(_not_finite),
          (Reason.NOT_FINITE,)),
    Fault("sequence_leap", "a command with the sequence number 2^64 - 1",
          _command(lambda command: _next(command, 2**64)), (Reason.OUT_OF_SEQUENCE,), stops=False, goes_on=True),
    Fault("second_planner", "a valid command of another process", _command(_of_another),
          (Reason.FOREIGN_SENDER,), stops=False, goes_on=True),
    # Goals.
    Fault("goal_replaced", "another goal in mid-motion", lambda bench: bench.replace_goal(),
          (Reason.REPLACED, Reason.WAITING_FOR_ROBOT), stops=False, goes_on=True),
    # Behind the Franka control interface.
    Fault("reflex", "a reflex of the arm", _reflexes(1), (Reason.ROBOT_RECOVERING,), stack=FRANKA,
          goes_on=True),
    Fault("reflexes", "more reflexes than are cleared without a person", _reflexes(4),
          (Reason.ROBOT_ERROR,), stack=FRANKA, duration=15.0),
    Fault("user_stop", "the user stop is pressed", codes=(Reason.USER_STOPPED,), stack=FRANKA,
          **_cell("user_stop")),
    Fault("gripper_blocked", "something holds the fingers", codes=(Reason.GRIPPER_BLOCKED,),
          stack=FRANKA, stops=False, **_cell("gripper_blocked")),
    Fault("connection_lost", "the connection to the control unit breaks", codes=_STATE,
          stack=FRANKA, **_cell("connection_lost")),
    Fault("states_of_the_arm_frozen", "the control unit repeats its state", codes=_STATE,
          stack=FRANKA, **_cell("state_frozen")),
    Fault("controller_killed_with_the_arm", "controller_node: kill -9", _kill("controller_node"),
          _DOWN, stack=FRANKA, duration=15.0),
    Fault("controller_hangs_with_the_arm", "controller_node: SIGSTOP for 3 s", stack=FRANKA,
          duration=3.0, **_stop("controller_node")),
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
