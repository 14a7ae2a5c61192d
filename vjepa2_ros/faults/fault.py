# SPDX-License-Identifier: Apache-2.0
"""A fault that can be injected, and what one repeat of it showed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vjepa2_ros.robot.reason import Reason

if TYPE_CHECKING:
    from vjepa2_ros.faults.bench import FaultBench

SIMULATED, SLOW, FRANKA = "simulated", "slow", "franka"
CLOCK, TWO_HOSTS = "clock", "two hosts"
"""Kinds of stacks: the simulated arm over topics, the same at 4 cm/s, behind the Franka control
interface, on a clock that can jump, and at 4 cm/s with encoder and planner on another host."""


def _nothing(bench: FaultBench) -> None:
    """Nothing is to be ended."""


@dataclass(frozen=True)
class Fault:
    """A fault that is injected in mid-motion.

    Attributes:
        name: of the fault.
        text: what is injected.
        inject: begins it.
        codes: one of them shows that it was noticed, in a state of the robot or a status of the
            planner; without any, the end of the stack does.
        end: ends it, before it is found out how to go on.
        stack: kind of stack that it is injected into.
        stops: whether the arm has to stop for it, and to be seen to. Otherwise the step in
            execution may end.
        goes_on: whether the goal goes on: then only commands that were injected, or accepted
            before, must not be carried out, and the first rest counts.
        duration: longest time to look on [s].
        held: whether it lasts for all of that time, also when the arm is at rest.
    """

    name: str
    text: str
    inject: Callable[[FaultBench], object]
    codes: tuple[Reason, ...] = ()
    end: Callable[[FaultBench], object] = _nothing
    stack: str = SIMULATED
    stops: bool = True
    goes_on: bool = False
    duration: float = 6.0
    held: bool = False


@dataclass(frozen=True)
class Repeat:
    """What one injection showed.

    Attributes:
        noticed: from the injection to the first code that names the fault, or to the end of the
            stack [s]; None if there was none.
        rest: from the injection to the arm's rest [s]; None if it did not come to rest.
        distance: largest distance from where the arm was [m]; None if it was not seen after the
            injection.
        commands_after: commands that were carried out after the fault was noticed and before a
            person did something; if the goal goes on, injected commands that were, and how often
            one that had been carried out before was accepted again.
        code: name of the code, or of the end of the stack; empty for none.
        resumes: what it took to move again.
        measured_again: how many attempts before this one ended before the injection.
    """

    noticed: float | None
    rest: float | None
    distance: float | None
    commands_after: int
    code: str
    resumes: str
    measured_again: int = 0
