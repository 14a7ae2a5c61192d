# SPDX-License-Identifier: Apache-2.0
"""MuJoCo, and renderers of it that need no display.

MuJoCo loads its OpenGL back end when it is imported, by the environment variable `MUJOCO_GL`; an
invalid value makes the import fail. Import `mujoco` from here.
"""

from __future__ import annotations

import os

from vjepa2_ros.simulation import SimulatorError

os.environ.setdefault("MUJOCO_GL", "egl")

_HINT = (
    "unset MUJOCO_GL and install libegl1 and libgl1-mesa-dri, or set MUJOCO_GL=osmesa and install "
    "libosmesa6"
)

try:
    import mujoco
except Exception as error:
    # An invalid value is a RuntimeError, a missing library an AttributeError of PyOpenGL.
    raise SimulatorError(
        f"MuJoCo cannot be loaded with MUJOCO_GL={os.environ['MUJOCO_GL']}: {error}; {_HINT}"
    ) from error


def create_renderer(model: mujoco.MjModel, size: int) -> mujoco.Renderer:
    """Create a renderer for images of `size` × `size` pixels; it belongs to this thread.

    Raises:
        SimulatorError: there is no OpenGL context.
    """
    try:
        renderer = mujoco.Renderer(model, size, size)
    except Exception as error:
        raise SimulatorError(
            f"MuJoCo cannot render with MUJOCO_GL={os.environ['MUJOCO_GL']}: {error}; {_HINT}"
        ) from error
    # Shadows double the cost of an image that is rendered in software.
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
    return renderer
