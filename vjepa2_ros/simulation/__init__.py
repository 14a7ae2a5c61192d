# SPDX-License-Identifier: Apache-2.0
"""A Panda on a table with a cup and a box, in MuJoCo, steppable without ROS."""


class SimulatorError(RuntimeError):
    """The simulation cannot be loaded or cannot render; the text says what to install or set."""
