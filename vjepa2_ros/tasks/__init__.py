# SPDX-License-Identifier: Apache-2.0
"""The tasks of the simulated cell: start, sub-goal pictures, and success on the simulator's truth.

A task is one file in `library`, named like the task, with a `TASK` in it; one outside this package
is named by module:ATTRIBUTE. Nothing heavy is imported before a task is loaded.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vjepa2_ros.tasks.task import Task

_PARTS = ("description", "objects", "draw", "outcome")


def task_names() -> tuple[str, ...]:
    """Names of the tasks of this package."""
    return tuple(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent / "library")]))


def load_task(name: str) -> Task:
    """The task of a name, or of module:ATTRIBUTE.

    Raises:
        ValueError: there is no such task, or it cannot be imported.
    """
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            task = getattr(importlib.import_module(module), attribute)
        except Exception as error:
            raise ValueError(
                f"task {name!r} cannot be used ({error}): give module:ATTRIBUTE of a Task "
                "whose module is on the PYTHONPATH"
            ) from error
        if missing := [part for part in _PARTS if not hasattr(task, part)]:
            raise ValueError(f"{name!r} is no task: it has no {', '.join(missing)}")
        return task
    if name not in task_names():
        raise ValueError(
            f"unknown task {name!r}: use {', '.join(task_names())}, or module:ATTRIBUTE of another"
        )
    return importlib.import_module(f"vjepa2_ros.tasks.library.{name}").TASK
