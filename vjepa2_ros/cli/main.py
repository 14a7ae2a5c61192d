# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros COMMAND`: everything that can be done without `ros2 launch`."""

import argparse
import importlib
import sys

from vjepa2_ros.simulation import SimulatorError

COMMANDS = {
    "demo": "start all nodes on the simulated robot, show it a goal picture and record the run",
    "up": "start the nodes as processes and bring them up, without `ros2 launch`",
    "goal": "upload goal pictures to the running planner",
    "verify": "compare world model and planner with tensors of the reference implementation",
    "bench": "measure what plans are worth and what they cost",
    "evaluate": "measure closed-loop trials in the simulation",
    "train": "collect data in the simulation and train the small world model",
}
"""Each is a module of this package: `add_arguments(parser)`, `run(arguments) -> exit code`."""


def main() -> int:
    """Parse the command line and run the command; the exit code is the command's.

    Only the module of the command that was asked for is imported, so that `verify` works where
    MuJoCo or ROS is missing.
    """
    parser = argparse.ArgumentParser(prog="vjepa2-ros", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    asked = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name == asked:
            module = importlib.import_module(f"vjepa2_ros.cli.{name}")
            module.add_arguments(command)
    arguments = parser.parse_args()
    try:
        return module.run(arguments)
    except SimulatorError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
