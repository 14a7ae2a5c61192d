# SPDX-License-Identifier: Apache-2.0
"""Entry point of every node: `python -m vjepa2_ros.nodes planner_node --ros-args …`.

A node's own module imports torch or MuJoCo, which takes seconds. So the order is: signals, output,
ROS arguments and parameters, and only then the imports. A bad parameter or a Ctrl-C ends the
process with one line, or none, before anything heavy is loaded.
"""

import importlib
import sys
from pathlib import Path

from vjepa2_ros.ros.signals import end_with_parent, exit_on_signal


def main() -> int:
    """Run the node that the program is named after; returns the exit code of the process."""
    exit_on_signal()
    if Path(sys.argv[0]).name == "__main__.py":
        # Started by `python -m vjepa2_ros.nodes NAME`: from here on as if by lib/vjepa2_ros/NAME.
        del sys.argv[0]
    name = Path(sys.argv[0]).name if sys.argv else ""

    from vjepa2_ros.ros.deadlines import END_WITH_PARENT_OPTION, wind_down_timeout
    from vjepa2_ros.ros.output import never_wait_for_output
    from vjepa2_ros.ros.runner import check_parameters
    from vjepa2_ros.settings.stack import NODES

    if name not in NODES:
        print(f"unknown node {name!r}: use {', '.join(NODES)}", file=sys.stderr)
        return 2
    never_wait_for_output()
    if wind_down_timeout(sys.argv) or END_WITH_PARENT_OPTION in sys.argv:
        end_with_parent()
    if not check_parameters(name, NODES[name].settings, sys.argv):
        return 1
    return importlib.import_module(f"vjepa2_ros.nodes.{name}").main()


if __name__ == "__main__":
    sys.exit(main())
