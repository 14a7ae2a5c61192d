# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros COMMAND`: everything that can be done without `ros2 launch`."""

import argparse
import importlib
import multiprocessing
import os
import signal
import sys
from contextlib import suppress
from types import FrameType

from vjepa2_ros.simulation import SimulatorError

COMMANDS = {
    "demo": "start all nodes on the simulated robot, send a goal image and record the run",
    "up": "start the nodes as processes and bring them up, without `ros2 launch`",
    "preflight": "tell whether a Franka arm, network and computer are fit for a first motion",
    "goal": "upload goal images to the running planner",
    "panel": "a page in the browser to watch a running stack and to set goals",
    "replay": "plan once more from what a bag holds, and judge the plans by gates",
    "teach": "take the pictures of a sequence of sub-goals into one file",
    "security": "make the keys and permissions of SROS 2 for the nodes",
    "verify": "compare world model and planner with tensors of the reference implementation",
    "bench": "measure what plans are worth and what they cost",
    "evaluate": "measure closed-loop trials in the simulation",
    "diagnose": "find out why a task fails: representation, predictor and search apart",
    "embed": "turn a video clip into tokens and one vector, and find the nearest clips",
    "classify": "name the action in a video",
    "anticipate": "name the action that comes next in a video",
    "imagine": "show what the world model imagines after actions, as pictures",
    "faults": "inject faults into running stacks and measure how they come to rest",
    "soak": "thousands of steps with interruptions, and what the processes use",
    "train": "collect data in the simulation and train the small world model",
    "baselines": "fit the policies that the planner is compared with",
}
"""Each is a module of this package: `add_arguments(parser)`, `run(arguments) -> exit code`."""
INTERRUPTED = 130
"""Exit code after a Ctrl-C, as a shell reports it: 128 + SIGINT. The same after SIGTERM."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_IMPORTER = "<frozen importlib._bootstrap>"


def main() -> int:
    """Parse the command line and run the command; the exit code is the command's.

    Only the module of the command that was asked for is imported, so that `verify` works where
    MuJoCo or ROS is missing.
    """
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed by whoever started this
            setattr(sys, name, open(os.devnull, "w"))
    try:
        code = _run()
        # Now, since an error of the interpreter's own attempt could not be handled.
        sys.stdout.flush()
        _end_at_once_on_signal()
        return code
    except SimulatorError as error:
        return _fail(str(error), 2)
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        return _fail(f"cannot read or write{where}: {error.strerror or error}", 1)
    except KeyboardInterrupt:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        return _fail("interrupted", INTERRUPTED)


def _fail(text: str, code: int) -> int:
    # Either output may be what fails: a full disk, a closed pipe.
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)
    try:
        sys.stdout.flush()
    except OSError:
        # What is left in the buffer would fail once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _run() -> int:
    parser = argparse.ArgumentParser(prog="vjepa2-ros", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    asked = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name == asked:
            module = importlib.import_module(f"vjepa2_ros.cli.{name}")
            module.add_arguments(command)
    arguments = parser.parse_args()
    return module.run(arguments)


def _interrupt(_: int, frame: FrameType | None) -> None:
    """Handle a signal: end at once while modules are imported, else raise KeyboardInterrupt."""
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTER:
            # An exception would be swallowed, or reported by the module that is half imported.
            _end_at_once()
        frame = frame.f_back
    for child in multiprocessing.active_children():
        # A pool would wait for all that is left to do.
        child.kill()
    raise KeyboardInterrupt


def _end_at_once(*_: object) -> None:
    with suppress(OSError):
        os.write(sys.__stderr__.fileno(), b"interrupted\n")
    os._exit(INTERRUPTED)


def _end_at_once_on_signal() -> None:
    """For the interpreter's own end, where an exception would be reported and then ignored.

    A command that handles signals itself keeps its way.
    """
    for number in _SIGNALS:
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, _end_at_once)


if multiprocessing.parent_process() is not None:
    # A worker of a pool, which a Ctrl-C in the terminal reaches too: its parent sees to it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
