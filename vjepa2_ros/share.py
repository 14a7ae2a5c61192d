# SPDX-License-Identifier: Apache-2.0
"""Where the files next to the code are: ``config``, ``launch``, ``models``, ``msg``, ``srv``."""

from functools import lru_cache
from pathlib import Path


@lru_cache
def share_directory() -> Path:
    """Folder that holds ``config`` and ``models``.

    The source tree itself when the package runs from one, else ``share/vjepa2_ros`` of the
    prefix that the package was installed to, by colcon as well as by pip.

    Raises:
        FileNotFoundError: the package was copied somewhere without its share folder.
    """
    package = Path(__file__).parent
    if (package.parent / "package.xml").is_file():
        return package.parent
    # <prefix>/lib/python3.x/site-packages/vjepa2_ros, or deeper on Debian: look upwards.
    for parent in package.parents:
        share = parent / "share" / "vjepa2_ros"
        if (share / "package.xml").is_file():
            return share
    raise FileNotFoundError(
        f"no share/vjepa2_ros above {package}: install the package with colcon or pip "
        "instead of copying its modules"
    )


def model_names() -> list[str]:
    """Names of the shipped models."""
    return sorted(path.name for path in (share_directory() / "models").glob("*/"))


def model_path(name: str) -> Path:
    """Path of a checkpoint: what `name` points to, or else the shipped model of that bare name."""
    path = Path(name).expanduser()
    shipped = share_directory() / "models" / name
    return shipped if path.parent == Path() and not path.exists() and shipped.exists() else path
