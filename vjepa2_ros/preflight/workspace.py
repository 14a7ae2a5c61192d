# SPDX-License-Identifier: Apache-2.0
"""Whether the arm reaches the whole workspace with the hand pointing down."""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy.spatial.transform import Rotation

from vjepa2_ros.preflight.finding import Finding, fail, ok, warn
from vjepa2_ros.preflight.robot import LEAST_MARGIN
from vjepa2_ros.robot.kinematics import (
    FRANKA_HAND_ANGLE,
    FRANKA_HAND_LENGTH,
    JOINT_LIMITS,
    READY_POSTURE,
    FrankaKinematics,
)
from vjepa2_ros.settings.cell import Workspace

_DOWN = Rotation.from_euler("x", np.pi)
_POINTS = 5  # on each axis
_ITERATIONS = 50
_TOLERANCE = 1e-3  # [m]


def workspace_finding(
    workspace: Workspace, arm: str, flange_to_end_effector: np.ndarray | None = None
) -> Finding:
    """Look at a grid of points of the box.

    Args:
        workspace: of the configuration.
        arm: name in `JOINT_LIMITS`.
        flange_to_end_effector: [4, 4] as the robot is configured; None: the Franka Hand. What it
            says besides a length and an angle along the flange's axis is left out.
    """
    length, angle, tool = FRANKA_HAND_LENGTH, FRANKA_HAND_ANGLE, "Franka Hand"
    if flange_to_end_effector is not None:
        length = float(flange_to_end_effector[2, 3])
        angle = float(np.arctan2(flange_to_end_effector[1, 0], flange_to_end_effector[0, 0]))
        tool = "configured end effector"
    kinematics = FrankaKinematics(length, angle)
    axes = np.linspace(workspace.lower, workspace.upper, _POINTS).T
    points = np.array(list(product(*axes)))
    joints = np.array(
        [
            kinematics.solve(READY_POSTURE, point, _DOWN, _ITERATIONS, READY_POSTURE)
            for point in points
        ]
    )
    reached = np.array([kinematics.forward(angles)[0] for angles in joints])
    margins = np.array([JOINT_LIMITS[arm].margins(angles) for angles in joints])
    margins[np.linalg.norm(reached - points, axis=1) > _TOLERANCE] = -np.inf
    worst = int(margins.min(axis=1).argmin())
    joint, margin = int(margins[worst].argmin()), float(margins[worst].min())
    beyond, near = ((margins.min(axis=1) < least).sum() for least in (0.0, LEAST_MARGIN))
    at = "[" + " ".join(f"{value:.2f}" for value in points[worst]) + "] m"
    what = f"{len(points)} points, {arm}, {tool} of {1e3 * length:.0f} mm pointing down"
    if not np.isfinite(margin):
        text, advice = f"{at} is out of reach", "bring the box nearer"
    else:
        text = f"least margin {margin:.2f} rad, joint {joint + 1} at {at}"
        advice = "move that corner of the box away"
    advice += ": set workspace.lower and workspace.upper of the configuration"
    if beyond:
        return fail("workspace", f"{beyond} of {what} are beyond a limit; {text}", advice)
    if near:
        text = f"{near} of {what} are within {LEAST_MARGIN} rad of a limit; {text}"
        return warn("workspace", text, advice)
    return ok("workspace", f"{what}; {text}")
