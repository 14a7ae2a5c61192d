# SPDX-License-Identifier: Apache-2.0
"""Whether results can be written, asked before the work that takes long."""

import tempfile
from pathlib import Path


def check_folder(folder: Path) -> None:
    """Make a folder if it does not exist; OSError if nothing can be written to it."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"\0")


def check_file(path: Path) -> None:
    """Check that a file can be written, without changing it; a device gets an empty line.

    Its folder is made if it does not exist, but not those above: a path that is wrong from its
    start is more likely a mistake.

    Raises:
        OSError: it cannot be written, or the folder above its own does not exist.
    """
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        check_folder(path.parent)
    elif not path.is_fifo():  # whose reader would take the end of the check for its own
        with path.open("ab") as file:
            if path.is_char_device():  # which tells only then whether it takes something
                file.write(b"\n")
