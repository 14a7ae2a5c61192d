# SPDX-License-Identifier: Apache-2.0
"""The tasks of the simulated cell, registered once.

Nothing heavy is imported before a task is loaded: the command line lists the names.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True)
class Task:
    """A task to evaluate.

    Attributes:
        description: what the robot has to do.
        module: has `scene_seeds` and `run_episodes`, see `vjepa2_ros.evaluation.reach`.
    """

    description: str
    module: str

    def load(self) -> ModuleType:
        """Import the module."""
        return importlib.import_module(self.module)


TASKS = {
    "reach": Task(
        "from a random pose to the pose that a goal image shows", "vjepa2_ros.evaluation.reach"
    ),
}
"""Every task by its name."""
