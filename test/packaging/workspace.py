# SPDX-License-Identifier: Apache-2.0
"""Commands as a user of a ROS workspace types them, with .venv instead of /opt/ros."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

ROS_IS_SOURCED = "ROS_DISTRO" in os.environ

# What the Python of PyPI's ROS has set for itself and a new shell has not.
_OWN = {"_ROS_WHEELS_BOOTSTRAP_COMPLETE", "LD_LIBRARY_PATH"}


def shell(script: str, folder: Path, timeout: float = 600) -> str:
    """Runs a bash script in a folder, stops it at its first failure, and returns its output."""
    own = set() if ROS_IS_SOURCED else _OWN
    environment = {name: value for name, value in os.environ.items() if name not in own}
    result = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert result.returncode == 0, f"{script}\nended with {result.returncode}:\n{result.stdout}"
    return result.stdout


def source_ros() -> str:
    """The line that brings ROS into a shell: nothing to do where one is sourced already."""
    return "" if ROS_IS_SOURCED else f"source {ROOT}/scripts/ros-from-pypi.bash\n"
