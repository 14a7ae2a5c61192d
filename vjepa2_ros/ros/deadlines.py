# SPDX-License-Identifier: Apache-2.0
"""How long the stack may take to go down, and each of its processes before it is forced to."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from vjepa2_ros.settings.manager import LifecycleManagerSettings

END_WITH_PARENT_OPTION = "--end-with-parent"
"""Option of a node that nobody brings down: it ends with the process that started it."""
WIND_DOWN_OPTION = "--wind-down-timeout"
"""Given by what starts the whole stack: a node then ends with its starter, and on a signal leaves
it to the lifecycle manager to bring all nodes down in order, within this many seconds."""
DEACTIVATION_TIMEOUT = 3.0
"""For how long a node that is to end tries to deactivate [s]: a halt may fail at first."""
_MARGIN = 1.0


def wind_down_timeout(arguments: Sequence[str]) -> float:
    """Value of `WIND_DOWN_OPTION` among a program's arguments, 0 without it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(WIND_DOWN_OPTION, type=float, default=0.0)
    return parser.parse_known_args(arguments)[0].wind_down_timeout


@dataclass(frozen=True)
class Deadlines:
    """Each leaves the time that the one before needs.

    Attributes:
        wind_down: value of `WIND_DOWN_OPTION`, after which a node winds down alone [s].
        terminate: after Ctrl-C, a process that still runs is ended by force [s].
        kill: after a SIGTERM, it is killed [s].
    """

    wind_down: float
    terminate: float
    kill: float

    @classmethod
    def of(cls, manager: LifecycleManagerSettings) -> Deadlines:
        """The deadlines that follow from those of the lifecycle manager."""
        wind_down = manager.shutdown_timeout * len(manager.nodes) + _MARGIN
        alone = DEACTIVATION_TIMEOUT + manager.shutdown_timeout
        return cls(wind_down, wind_down + alone + _MARGIN, alone)
