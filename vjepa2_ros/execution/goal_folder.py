# SPDX-License-Identifier: Apache-2.0
"""Goal images named by a path beneath one folder, for those who cannot send them.

Who may call a service must not read other files by it: nothing outside of the folder is opened, no
link leads out of it, and nothing but a regular file of bounded size is read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

MAX_BYTES = 100_000_000
"""Most bytes of all images of a request together."""


class GoalPathError(ValueError):
    """A path does not lead to a file that may be read; the text says why."""


def read_beneath(folder: str, paths: Sequence[str]) -> list[bytes]:
    """Contents of files beneath a folder.

    Args:
        folder: that all of them have to be in; empty: none may be read.
        paths: relative to the folder.

    Raises:
        GoalPathError: there is no folder, a path leads out of it or to no regular file, or the
            files are too large together.
    """
    if not folder:
        raise GoalPathError(
            "images are not read from files here: send them, or set the planner's goal_folder"
        )
    try:
        root = Path(folder).expanduser().resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise GoalPathError(f"goal_folder {folder} cannot be used: {error}") from error
    contents, left = [], MAX_BYTES
    for path in paths:
        contents.append(_read(root, path, left))
        left -= len(contents[-1])
    return contents


def _read(root: Path, path: str, most: int) -> bytes:
    try:
        # Whether a file outside exists is nobody's business either.
        target = (root / path).resolve()
        if not target.is_relative_to(root):
            raise GoalPathError(f"{path!r} leads out of goal_folder")
        # What is no link now must not be one when it is opened, and a pipe must not be waited for.
        handle = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise GoalPathError(f"{path!r} is not a regular file")
            data = file.read(most + 1)
    except (OSError, RuntimeError) as error:
        text = error.strerror if isinstance(error, OSError) else error
        raise GoalPathError(f"{path!r} cannot be read in goal_folder: {text}") from error
    except ValueError as error:
        if isinstance(error, GoalPathError):
            raise
        # A null character.
        raise GoalPathError(f"{path!r} is no path: {error}") from error
    if len(data) > most:
        raise GoalPathError(f"the images have more than {MAX_BYTES / 1e6:.0f} MB together")
    return data
