# SPDX-License-Identifier: Apache-2.0
"""Judges what was read from the arm and the gripper."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from vjepa2_ros.preflight.finding import Finding, fail, ok, skipped, warn
from vjepa2_ros.preflight.robot_reading import GripperReading, Refusal, RobotReading
from vjepa2_ros.robot.kinematics import JOINT_LIMITS

LEAST_MARGIN = 0.1
"""From a joint to its limit [rad] below which there is a warning."""
_STATE_PERIOD = 1  # [ms]
_MOST_MISSING = 0.01
_LONGEST_GAP = 20  # [ms]; a motion ends when 20 packets in a row are missing
_MOST_DRIFT = 1e-3
_RECOVER = "find out what the arm touched, free it, then recover in Desk or by `reset_fault`"
_MODES = {
    "Other": "unlock the brakes and activate FCI in Desk",
    "Move": "another program moves the arm: end it",
    "Guiding": "let go of the guiding buttons, and switch Desk to execution",
    "Reflex": _RECOVER,
    "UserStopped": "release the user stop (the external activation device), stand clear",
    "AutomaticErrorRecovery": "wait until the recovery is over, and start again",
}
"""What to do about a mode other than Idle."""


def connection_finding(refusal: Refusal) -> Finding:
    """Why nothing can be read."""
    if refusal.is_version:
        advice = "see server version"
    elif "UDP" in refusal.text or "receive" in refusal.text:
        advice = "let the firewall of this computer pass UDP from the robot"
    else:
        advice = "activate FCI in Desk and end other programs that use it; then start again"
    return fail("connection", refusal.text.strip(), advice)


def communication_findings(reading: RobotReading) -> list[Finding]:
    """Rate of the states, what is missing, and the gaps."""
    findings = []
    if reading.realtime_refusal:
        findings.append(
            fail(
                "connection",
                reading.realtime_refusal,
                "see real-time kernel; the states below were read without",
            )
        )
    else:
        findings.append(ok("connection", "franky reads states"))
    if len(reading.robot_time) < 2 or reading.robot_time[-1] <= reading.robot_time[0]:
        text = f"{len(reading.robot_time)} states, robot time stands still"
        return [*findings, fail("states", text, "start the control unit again")]
    steps = np.diff(reading.robot_time)
    seconds = reading.arrival[-1] - reading.arrival[0]
    expected = (reading.robot_time[-1] - reading.robot_time[0]) / _STATE_PERIOD
    new = int((steps > 0).sum())
    missing = int(expected) - new
    share = missing / expected
    text = f"{new / seconds:.0f} Hz over {seconds:.1f} s; {missing} of {expected:.0f} missing"
    advice = (
        "end other load on this computer, use the real-time kernel, a cable of its own to the "
        "control unit and a network card without energy saving (`ethtool --set-eee DEVICE eee off`)"
    )
    findings.append(
        warn("states", f"{text} ({share:.1%})", advice)
        if share > _MOST_MISSING
        else ok("states", f"{text} by robot time")
    )
    gap, wall = int(steps.max()), 1e3 * np.diff(reading.arrival).max()
    text = f"{gap} ms of robot time, {wall:.1f} ms on this computer"
    findings.append(
        fail("largest gap", f"{text}; a motion ends at {_LONGEST_GAP} ms", advice)
        if gap >= _LONGEST_GAP
        else ok("largest gap", text)
    )
    if "Move" in reading.modes:
        findings.append(ok("success rate", f"{reading.success_rate:.3f} of control commands"))
    else:
        findings.append(
            skipped(
                "success rate",
                "control_command_success_rate is defined during a motion only",
                "missing states above stand for it; look again at it during the first motion",
            )
        )
    return findings


def mode_findings(reading: RobotReading) -> list[Finding]:
    """Mode, user stop and errors."""
    findings = []
    stopped = reading.mode == "UserStopped"
    if reading.mode == "Idle":
        findings.append(ok("robot mode", "Idle"))
    else:
        advice = _MODES.get(reading.mode, "see Desk")
        findings.append(fail("robot mode", reading.mode, advice))
    findings.append(
        fail("user stop", "pressed", _MODES["UserStopped"])
        if stopped
        else ok("user stop", "released; press it once before the first motion and see it here")
    )
    if reading.errors:
        limits = any("limit" in name for name in reading.errors)
        advice = "guide the arm away from its limits by hand, then recover" if limits else _RECOVER
        findings.append(fail("errors", ", ".join(reading.errors), advice))
    else:
        last = ", ".join(reading.last_motion_errors)
        findings.append(ok("errors", f"none (of the last motion: {last})" if last else "none"))
    return findings


def joint_finding(reading: RobotReading, arm: str) -> Finding:
    """How near the joints are to their limits.

    Args:
        reading: of the robot.
        arm: name in `JOINT_LIMITS`.
    """
    margins = JOINT_LIMITS[arm].margins(reading.joints)
    nearest = int(margins.argmin())
    angles = " ".join(f"{angle:.2f}" for angle in reading.joints)
    text = (
        f"[{angles}] rad; joint {nearest + 1} is {abs(margins[nearest]):.2f} rad "
        f"{'beyond' if margins[nearest] < 0 else 'from'} its limit ({arm})"
    )
    advice = f"guide joint {nearest + 1} by hand towards the middle of its range"
    if margins[nearest] < 0:
        return fail("joints", text, advice)
    return (warn if margins[nearest] < LEAST_MARGIN else ok)(
        "joints", text, advice if margins[nearest] < LEAST_MARGIN else ""
    )


def load_findings(reading: RobotReading) -> list[Finding]:
    """What the robot believes to carry; shown, since only people know what is mounted."""
    place = reading.flange_to_end_effector[:3, 3]
    turn = Rotation.from_matrix(reading.flange_to_end_effector[:3, :3]).as_euler("xyz", True)
    mass = (
        f"total {reading.total_mass:.2f} kg: end effector {reading.end_effector_mass:.2f}, "
        f"load {reading.load_mass:.2f}"
    )
    frame = (
        f"F_T_EE [{' '.join(f'{value:.4f}' for value in place)}] m, "
        f"turned by [{' '.join(f'{value:.0f}' for value in turn)}] degrees"
    )
    findings = [
        warn("load", f"{mass}: no end effector", "set the end effector in Desk, with its mass")
        if reading.total_mass <= 0.0
        else ok("load", mass, "compare with what is mounted; Desk sets it")
    ]
    if not place.any():
        advice = "set the tool centre point of the end effector in Desk"
        return [*findings, warn("end effector", f"{frame}: the flange itself", advice)]
    advice = "compare with what is mounted; poses and workspace are those of this point"
    return [*findings, ok("end effector", frame, advice)]


def drift_finding(reading: RobotReading) -> Finding:
    """Whether a second of the robot is one of this computer."""
    robot_seconds = 1e-3 * (reading.robot_time[-1] - reading.robot_time[0])
    difference = robot_seconds - reading.system_seconds
    drift = difference / max(reading.system_seconds, 1e-9)
    text = f"{1e3 * difference:+.1f} ms in {reading.system_seconds:.1f} s ({1e6 * drift:+.0f} ppm)"
    if abs(drift) > _MOST_DRIFT:
        return warn(
            "robot time",
            text,
            "see system clock, and read for longer with `--seconds`; a simulated robot falls "
            "behind under load",
        )
    return ok("robot time", text)


def gripper_findings(reading: GripperReading | Refusal) -> list[Finding]:
    """Whether the gripper answers and knows its width."""
    if isinstance(reading, Refusal):
        advice = (
            "install the franky of the robot's version, see server version"
            if reading.is_version
            else "set the Franka Hand as end effector in Desk and switch it on"
        )
        return [fail("gripper", reading.text.strip(), advice)]
    findings = [ok("gripper", f"answers, server version {reading.server_version}")]
    if not reading.max_width > 0.0:
        findings.append(
            fail(
                "homed",
                f"max_width is {reading.max_width:g} m",
                "home it in Desk, or by franky's `Gripper(host).homing()`; the fingers will move",
            )
        )
    else:
        findings.append(ok("homed", f"max_width {1e3 * reading.max_width:.1f} mm"))
    held = ", holds something" if reading.is_grasped else ""
    findings.append(ok("width", f"{1e3 * reading.width:.1f} mm{held}"))
    return findings
