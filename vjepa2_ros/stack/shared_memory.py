# SPDX-License-Identifier: Apache-2.0
"""Shared memory of Fast DDS that processes have left behind which were killed.

A node that meets such files at its start may hear nothing of the others ("open_and_lock_file
failed", Fast DDS issue 5737). Fast DDS has a tool that removes them, `fastdds shm clean`, which is
not complete everywhere.
"""

from __future__ import annotations

import fcntl
import re
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

FOLDER = Path("/dev/shm")
"""Where Linux keeps shared memory."""
YOUNG = 10.0
"""Age [s] below which files are left alone: a process may be creating them."""

# A port or a segment, as part of the names of its files.
_NAME = re.compile(r"fastdds_(port\d+|[0-9a-f]{16})(?=_|$)")
_LOCKS = ("_el", "_sl")


def remove_abandoned(folder: Path = FOLDER) -> int:
    """Remove the files of ports and segments that no process has locked.

    Returns:
        Number of files that were removed.
    """
    groups: dict[str, list[Path]] = defaultdict(list)
    # There is no such folder on other systems.
    for path in folder.glob("*fastdds_*"):
        if match := _NAME.search(path.name):
            groups[match.group()].append(path)
    removed = 0
    for name, paths in groups.items():
        if _is_young(paths) or any(_is_locked(folder / f"{name}{lock}") for lock in _LOCKS):
            continue
        for path in paths:
            with suppress(OSError):
                path.unlink()
                removed += 1
    return removed


def _is_young(paths: list[Path]) -> bool:
    try:
        return time.time() - max(path.stat().st_ctime for path in paths) < YOUNG
    except OSError:
        # It is being removed by another process.
        return True


def _is_locked(path: Path) -> bool:
    try:
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        # By a living process, or of another user.
        return True
    return False
