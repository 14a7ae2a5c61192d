# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros goal IMAGE…`: tell a running stack what the camera should see in the end."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vjepa2_ros.cli.arguments import namespace, positive_integer

if TYPE_CHECKING:
    from vjepa2_ros.stack.client import Answer, StackClient

CAMERA = "camera/image_raw"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="JPEG, PNG or WebP files, one for each sub-goal in order; or one file of "
        "`vjepa2-ros teach`",
    )
    parser.add_argument(
        "--from-topic",
        nargs="?",
        const=CAMERA,
        metavar="TOPIC",
        help=f"take the camera's present picture as the goal (default: {CAMERA})",
    )
    parser.add_argument(
        "--save", type=Path, metavar="FILE", help="keep the picture of --from-topic as a PNG"
    )
    parser.add_argument(
        "--no-goal", action="store_true", help="with --save: keep the picture, and set no goal"
    )
    parser.add_argument(
        "--steps",
        type=positive_integer,
        nargs="+",
        default=[],
        help="steps for each sub-goal (default: planner's)",
    )
    parser.add_argument(
        "--gripper",
        nargs="+",
        default=[],
        metavar="WHAT",
        help="open, hold, close or planned for each sub-goal (default: planned)",
    )
    parser.add_argument(
        "--wait",
        action="store_true",
        help="follow the goal to its end; Ctrl-C cancels it",
    )
    parser.add_argument(
        "--namespace", type=namespace, default="/vjepa2", help="namespace of the stack"
    )
    end = parser.add_mutually_exclusive_group()
    end.add_argument(
        "--cancel", action="store_true", help="end the goal; the robot finishes its step"
    )
    end.add_argument(
        "--stop",
        action="store_true",
        help="halt the robot, which ends the goal; it takes seconds: no emergency stop",
    )
    end.add_argument(
        "--reset-fault",
        action="store_true",
        help="take commands again after a fault; the robot does not move by it",
    )


def run(args: argparse.Namespace) -> int:
    """Send the request and print the answer; 1 if it was refused, or not answered.

    With --wait also 1 if the goal did not end by REACHED or STEP_LIMIT; 2 for options that do not
    fit each other.
    """
    from vjepa2_ros.execution.goal_file import SUFFIX
    from vjepa2_ros.stack.client import ClientError, StackClient

    ends = args.cancel or args.stop or args.reset_fault
    if args.save is not None and not args.from_topic:
        print("--save keeps the picture of --from-topic: give both", file=sys.stderr)
        return 2
    if args.no_goal and args.save is None:
        print("--no-goal keeps a picture: give --from-topic and --save, too", file=sys.stderr)
        return 2
    if args.save is not None and args.save.is_file():
        print(f"there is already a {args.save}: choose another name", file=sys.stderr)
        return 2
    if any(path.endswith(SUFFIX) for path in args.images) and (args.steps or args.gripper):
        print(f"a {SUFFIX} file says steps and gripper itself: leave them out", file=sys.stderr)
        return 2
    if args.images and args.from_topic:
        print("give goal images or --from-topic, not both", file=sys.stderr)
        return 2
    if bool(args.images) + (args.from_topic is not None) + ends != 1:
        print(
            "give goal images, --from-topic, or one of --cancel, --stop and --reset-fault",
            file=sys.stderr,
        )
        return 2
    if ends and args.wait:
        print("--wait follows a goal: give it with goal images", file=sys.stderr)
        return 2
    try:
        with StackClient(args.namespace) as client:
            if ends:
                return _end(client, args)
            return _goal(client, args)
    except ClientError as error:
        print(error, file=sys.stderr)
        return 1


def _end(client: StackClient, args: argparse.Namespace) -> int:
    if args.stop:
        answer = client.halt()
    else:
        answer = client.reset_fault() if args.reset_fault else client.cancel()
    if answer.accepted:
        print(answer.message)
    return _code(answer)


def _goal(client: StackClient, args: argparse.Namespace) -> int:
    import numpy as np

    from vjepa2_ros.ros.conversions import compressed_image
    from vjepa2_ros.ros.goal_messages import tool_state_message
    from vjepa2_ros.stack.client import png, read_images

    steps, gripper, states = args.steps, args.gripper, []
    if args.from_topic:
        data = png(client.picture(args.from_topic))
        if args.save is not None:
            args.save.write_bytes(data)
        if args.no_goal:
            print(f"the picture is in {args.save}; no goal was set")
            return 0
        state = client.state()
        states = [] if state is None else [state]
        if sys.stdin.isatty():
            print(
                "The picture is taken. Put things back as they were, then press Enter to set the "
                "goal; Ctrl-C leaves it.",
                flush=True,
            )
            sys.stdin.readline()
        images = [compressed_image(data)]
    elif taught := _taught(args.images):
        images = [compressed_image(subgoal.image) for subgoal in taught]
        steps = [subgoal.steps for subgoal in taught]
        gripper = [subgoal.gripper for subgoal in taught]
        if all(subgoal.state is not None for subgoal in taught):
            states = [tool_state_message(np.array(subgoal.state)) for subgoal in taught]
    else:
        images = read_images(args.images)

    def begin() -> Answer:
        answer = client.set_goal(images, steps, gripper, states)
        if answer.accepted:
            print(f"{answer.goal_id} accepted: {answer.message}", flush=True)
        _code(answer)
        return answer

    return _follow(client, begin) if args.wait else _code(begin(), quiet=True)


def _taught(paths: list[str]) -> list:
    """Sub-goals of a taught goal; none where images are given."""
    from vjepa2_ros.execution.goal_file import SUFFIX, GoalFileError, load_goal
    from vjepa2_ros.stack.client import ClientError

    if not any(path.endswith(SUFFIX) for path in paths):
        return []
    if len(paths) > 1:
        raise ClientError(f"give one {SUFFIX} file alone, or images")
    try:
        return load_goal(Path(paths[0]).expanduser())
    except GoalFileError as error:
        raise ClientError(str(error)) from error


def _code(answer: Answer, quiet: bool = False) -> int:
    if not answer.accepted and not quiet:
        code = f" [{answer.reason.name}]" if answer.reason else ""
        print(f"refused: {answer.message}{code}", file=sys.stderr)
    return 0 if answer.accepted else 1


def _follow(client: StackClient, begin) -> int:
    """Show the progress of a goal; its exit code."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from vjepa2_ros.execution.goal_status import GoalState
    from vjepa2_ros.text import printable

    columns = (
        TextColumn("sub-goal {task.fields[subgoal]}"),
        BarColumn(),
        TextColumn("step {task.completed:.0f}  energy {task.fields[energy]}"),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    status = None
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=None, subgoal="–", energy="–")
        try:
            for status in client.follow(begin):
                progress.update(
                    bar,
                    completed=status.step,
                    description=printable(status.message)[:60],
                    subgoal=f"{status.subgoal + 1} of {status.subgoals}",
                    energy=f"{status.energy:.3f}",
                )
        except KeyboardInterrupt:
            progress.stop()
            # Also before the first status: a request that is being answered is overtaken by it.
            print(client.cancel().message, file=sys.stderr)
            raise
    if status is None:
        return 1
    end = GoalState(status.state)
    print(
        f"{end.name} after {status.step} steps, energy {status.energy:.3f}: "
        f"{printable(status.message)}"
    )
    return 0 if end in (GoalState.REACHED, GoalState.STEP_LIMIT) else 1
