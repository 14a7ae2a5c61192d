# SPDX-License-Identifier: Apache-2.0
"""The connection to a Franka arm, with everything set that is not the arm's own."""

from __future__ import annotations

import time
from concurrent.futures import Future, wait
from typing import Any

import numpy as np

from vjepa2_ros.robot.background_call import call_in_background
from vjepa2_ros.robot.driver import RobotError
from vjepa2_ros.robot.franka_limits import ArmLimits
from vjepa2_ros.robot.realtime import realtime_priority
from vjepa2_ros.settings.franka import FrankaSettings

# Longest wait for a connection: a host that is off answers nothing [s].
_CONNECT_TIMEOUT = 5.0
# Age [s] of an attempt without an answer beyond which another one is begun. Before that, it may
# still get the arm, which serves one client; libfranka gives up after 60 s where it gives up.
_HOPELESS = 120.0


class FrankaConnector:
    """Connects to an arm, as often as need be.

    Args:
        settings: of the arm.
        limits: of the arm's model.
    """

    def __init__(self, settings: FrankaSettings, limits: ArmLimits) -> None:
        self._settings = settings
        self._limits = limits
        self._attempt: Future | None = None
        self._begun = 0.0

    def connect(self) -> Any:
        """Return an arm with its limits, stiffness, thresholds, load and tool set.

        Raises:
            RobotError: there is none, or it cannot be used; the text says what to do.
        """
        try:
            import franky  # noqa: F401
        except ImportError as error:
            raise RobotError(
                f"the Franka client is not installed ({error}): pip install franky-control, in the "
                "version for the arm's system (`vjepa2-ros preflight` names it)"
            ) from error
        settings = self._settings
        try:
            with realtime_priority(settings.realtime):
                pass
        except PermissionError as error:
            raise RobotError(
                "this user may not have real-time priority: set `rtprio` in "
                "/etc/security/limits.d, or franka.realtime to false for a simulated arm"
            ) from error
        if self._attempt is None or time.monotonic() - self._begun > _HOPELESS:
            self._attempt, self._begun = call_in_background(self._open), time.monotonic()
        if not wait([self._attempt], _CONNECT_TIMEOUT).done:
            raise RobotError(
                f"the arm at {settings.host} gave no answer within {_CONNECT_TIMEOUT:.0f} s"
            )
        attempt, self._attempt = self._attempt, None
        try:
            return attempt.result()
        except Exception as error:
            raise RobotError(
                f"the arm at {settings.host} cannot be used: {error}; `vjepa2-ros preflight "
                f"--robot-ip {settings.host}` says what to do"
            ) from error

    def _open(self) -> Any:
        import franky

        settings, realtime = self._settings, franky.RealtimeConfig
        arm = franky.Robot(
            settings.host,
            realtime_config=realtime.Enforce if settings.realtime else realtime.Ignore,
            controller_mode=franky.ControllerMode.CartesianImpedance,
        )
        if arm.has_errors:
            # In a reflex it takes no settings.
            arm.recover_from_errors()
        for kind in ("translation", "rotation", "elbow", "joint"):
            values = getattr(self._limits, kind)
            for derivative in ("velocity", "acceleration", "jerk"):
                limit = getattr(arm, f"{kind}_{derivative}_limit")
                limit.set(_at_most(getattr(values, derivative), limit.max))
        stiffness = settings.translation_stiffness, settings.rotation_stiffness
        arm.set_cartesian_impedance(np.repeat(stiffness, 3))
        arm.set_collision_behavior(settings.torque_threshold, settings.force_threshold)
        arm.set_load(settings.load_mass, settings.load_center, np.zeros(9))
        offset = np.eye(4)
        offset[:3, 3] = settings.tool_offset
        arm.set_ee(offset.T.ravel())
        return arm


def _at_most(value: Any, limit: Any) -> Any:
    smaller = np.minimum(value, limit)
    return float(smaller) if np.ndim(smaller) == 0 else smaller
