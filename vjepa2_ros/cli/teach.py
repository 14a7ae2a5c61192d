# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros teach FILE`: take the pictures of sub-goals one after the other, into one file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vjepa2_ros.cli.arguments import namespace, positive_integer

if TYPE_CHECKING:
    from vjepa2_ros.msg import ToolState


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("file", type=Path, metavar="FILE.goal", help="what is written")
    parser.add_argument(
        "--from-topic",
        default="camera/image_raw",
        metavar="TOPIC",
        help="images of the camera (default: camera/image_raw)",
    )
    parser.add_argument(
        "--steps",
        type=positive_integer,
        default=8,
        help="steps for a sub-goal that is given none (default: 8)",
    )
    parser.add_argument(
        "--namespace", type=namespace, default="/vjepa2", help="namespace of the stack"
    )


def run(args: argparse.Namespace) -> int:
    """Ask for sub-goals until there are no more; 1 if nothing was written."""
    from vjepa2_ros.evaluation.writable import check_folder
    from vjepa2_ros.execution.goal_file import SUFFIX, TaughtSubgoal, save_goal
    from vjepa2_ros.stack.client import ClientError, StackClient, png

    if args.file.suffix != SUFFIX:
        print(f"name the file *{SUFFIX}, so that `vjepa2-ros goal` knows it", file=sys.stderr)
        return 2
    if args.file.exists():
        print(f"{args.file} exists already: choose another name", file=sys.stderr)
        return 2
    if not args.file.absolute().parent.is_dir():
        print(f"there is no folder {args.file.parent}", file=sys.stderr)
        return 2
    # Asked now, not after the work of a person.
    check_folder(args.file.absolute().parent)
    print(
        "For each sub-goal: arrange what the camera should see, guide the arm there, press Enter.\n"
        "Then say what the gripper does on the way (open, hold, close, or planned: as the planner "
        "is set,\nwhich as shipped leaves it as it is), and how many steps it may take. `done`, or "
        "the end of the\ninput, ends the list; Ctrl-C gives it up, and nothing is written."
    )
    subgoals: list[TaughtSubgoal] = []
    try:
        with StackClient(args.namespace) as client:
            while _wants_another(len(subgoals) + 1):
                data = png(client.picture(args.from_topic))
                state = client.state()
                gripper, steps = _gripper(), _steps(args.steps)
                taught = None if state is None else _numbers(state)
                subgoals.append(TaughtSubgoal(data, steps, gripper, taught))
                unknown = "" if taught else ", without the robot's state, which nobody publishes"
                print(f"  kept: {len(data)} bytes, gripper {gripper}, {steps} steps{unknown}")
    except ClientError as error:
        print(error, file=sys.stderr)
        if not subgoals:
            return 1
    if not subgoals:
        print("no sub-goal, nothing is written", file=sys.stderr)
        return 1
    save_goal(args.file, subgoals)
    print(f"{len(subgoals)} sub-goal(s) in {args.file}: vjepa2-ros goal {args.file} --wait")
    return 0


def _numbers(state: ToolState) -> tuple[float, ...] | None:
    """A state as `TaughtSubgoal` keeps it; None for one that is none."""
    from vjepa2_ros.recording.messages import tool_states

    try:
        return tuple(map(float, tool_states([state])[0]))
    except ValueError:
        return None


def _ask(question: str) -> str | None:
    """An answer without spaces round it; None at the end of the input."""
    print(question, end="", flush=True)
    line = sys.stdin.readline()
    return line.strip() if line else None


def _wants_another(number: int) -> bool:
    while True:
        answer = _ask(f"sub-goal {number}, Enter or done: ")
        if answer is None or answer == "done":
            return False
        if not answer:
            return True
        print(f"  Enter takes the picture, done ends the list, not {answer!r}")


def _gripper() -> str:
    """What the gripper does; the end of the input is as good as Enter."""
    from vjepa2_ros.settings.planning import GRIPPER_WORDS, PLANNED

    while True:
        answer = _ask(f"  gripper ({', '.join(GRIPPER_WORDS)}) [{PLANNED}]: ")
        if not answer:
            return PLANNED
        if answer in GRIPPER_WORDS:
            return answer
        print(f"  one of {', '.join(GRIPPER_WORDS)}, not {answer!r}")


def _steps(default: int) -> int:
    """The number of steps; the end of the input is as good as Enter."""
    while True:
        answer = _ask(f"  steps [{default}]: ")
        if not answer:
            return default
        try:
            return positive_integer(answer)
        except argparse.ArgumentTypeError as error:
            print(f"  {error}")
