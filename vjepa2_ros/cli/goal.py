# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros goal IMAGE…`: tell a running stack what the camera should see in the end."""

from __future__ import annotations

import argparse
import sys

from vjepa2_ros.cli.arguments import namespace, positive_integer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="JPEG or PNG files, one for each sub-goal in order",
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
    """Send the request and print the answer; 1 if it was refused or not answered."""
    from vjepa2_ros.stack.client import ClientError, StackClient, read_images

    if bool(args.images) == (args.cancel or args.stop or args.reset_fault):
        print("give goal images, or one of --cancel, --stop and --reset-fault", file=sys.stderr)
        return 2
    try:
        images = read_images(args.images)
        with StackClient(args.namespace) as client:
            if args.images:
                answer = client.set_goal(images, args.steps, args.gripper)
            elif args.stop:
                answer = client.halt()
            else:
                answer = client.reset_fault() if args.reset_fault else client.cancel()
    except ClientError as error:
        print(error, file=sys.stderr)
        return 1
    if not answer.accepted:
        code = f" [{answer.reason.name}]" if answer.reason else ""
        print(f"refused: {answer.message}{code}", file=sys.stderr)
        return 1
    print(f"{answer.goal_id} accepted: {answer.message}" if args.images else answer.message)
    return 0
