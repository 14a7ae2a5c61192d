# SPDX-License-Identifier: Apache-2.0
"""Whether the settings of the driver are those of the robot that answers."""

from __future__ import annotations

from vjepa2_ros.preflight.finding import Finding, fail, ok, warn
from vjepa2_ros.settings.controller import ControllerNodeSettings


def configured_findings(
    settings: ControllerNodeSettings, host: str, arm: str, realtime: bool
) -> list[Finding]:
    """Compare the settings with what was looked at.

    Args:
        settings: of the controller.
        host: address that was looked at.
        arm: name of the arm in `JOINT_LIMITS`, by its server's version.
        realtime: whether a real-time kernel was asked for.
    """
    check, franka = "settings", settings.franka
    if settings.robot != "franka":
        advice = "set `robot: franka` in the file of --config, and give that to `up` as well"
        return [warn(check, f"robot is {settings.robot!r}: no file drives this arm", advice)]
    findings = []
    if franka.host != host:
        text = f"franka.host is {franka.host}; looked at was {host}"
        findings.append(fail(check, text, "correct franka.host, or --robot-ip"))
    if franka.model != arm:
        text = f"franka.model is {franka.model}; the server is that of the arm {arm}"
        findings.append(fail(check, text, f"set franka.model to {arm}"))
    if realtime != franka.realtime:
        text = f"franka.realtime is {str(franka.realtime).lower()}"
        other = str(not franka.realtime).lower()
        word = "enforce" if franka.realtime else "ignore"
        advice = f"set franka.realtime to {other}, or give --realtime {word}"
        findings.append(warn(check, text, advice))
    text = f"franka.host {host}, franka.model {arm}, franka.max_speed {franka.max_speed:g} m/s"
    return findings or [ok(check, text)]
