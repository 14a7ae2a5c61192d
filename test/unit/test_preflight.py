# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros preflight` with franky against servers of the protocol, some with planted faults."""

import argparse
import json
import re
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from measurements import dies, fails, never_ends, succeeds
from small_model import small_world_model

from vjepa2_ros.cli import preflight
from vjepa2_ros.preflight import camera, computer, model, robot, server_version
from vjepa2_ros.preflight.configured import configured_findings
from vjepa2_ros.preflight.finding import Status
from vjepa2_ros.preflight.network import ARM_PORT, GRIPPER_PORT
from vjepa2_ros.preflight.process import MeasurementError, measure
from vjepa2_ros.preflight.robot_reading import RobotReading
from vjepa2_ros.preflight.ros_environment import environment_findings, hosts_finding, instances
from vjepa2_ros.preflight.workspace import workspace_finding
from vjepa2_ros.settings.camera import CameraNodeSettings
from vjepa2_ros.settings.cell import Workspace
from vjepa2_ros.settings.controller import ControllerNodeSettings
from vjepa2_ros.settings.franka import FrankaSettings
from vjepa2_ros.settings.model import ModelSettings
from vjepa2_ros.settings.planning import PlannerNodeSettings
from vjepa2_ros.world_model.checkpoint import save_world_model

ADDRESSES = {
    "healthy": "127.0.5.1",
    "faulty": "127.0.5.2",
    "older": "127.0.5.3",
    "nobody": "127.0.5.4",
    "dropping": "127.0.5.5",
    "silent": "127.0.5.6",
}
READY = (0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785)
FR3_JOINT_4 = -3.0770
"""Its lower limit [rad]."""
DEADLINE = 180.0


@contextmanager
def server(name, log, *faults):
    """A server in a process of its own; its commands go to the file `log`."""
    pytest.importorskip("franky_sim", reason="franky-sim IS ABSENT: preflight is not tested")
    script = Path(__file__).with_name("franka_server.py")
    command = [sys.executable, str(script), ADDRESSES[name], *map(str, faults)]
    with log.open("w") as commands:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=commands, text=True)
        try:
            assert process.stdout.readline() == "ready\n", log.read_text()
            yield
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def healthy(logs):
    with server("healthy", logs / "healthy"):
        yield logs / "healthy"


def report(capsys, tmp_path, host, *words):
    """Exit code and findings by check of the command."""
    parser = argparse.ArgumentParser()
    preflight.add_arguments(parser)
    file = tmp_path / "findings.json"
    arguments = ["--robot-ip", host, "--seconds", "1", "--realtime", "ignore", "--json", str(file)]
    code = preflight.run(parser.parse_args([*arguments, *words]))
    findings = json.loads(file.read_text())["findings"]
    printed = capsys.readouterr().out
    assert all(finding["status"] in printed for finding in findings)
    return code, {finding["check"]: finding for finding in findings}


WITHOUT_ROBOT = ("--skip", "network", "computer", "robot", "gripper", "workspace")
ROBOT_ONLY = ("--skip", "model", "ros", "computer")


def test_a_healthy_robot_is_fit_and_gets_no_command_to_move(healthy, capsys, tmp_path):
    code, found = report(capsys, tmp_path, ADDRESSES["healthy"], *ROBOT_ONLY)
    # States may be missing where other programs keep this computer busy.
    busy = {"states", "largest gap", "robot time", "round trip"}
    statuses = {check: finding["status"] for check, finding in found.items() if check not in busy}
    assert statuses.pop("success rate") == statuses.pop("camera") == "SKIPPED"
    assert statuses.pop("settings") == "WARN", "the default robot is the simulated one"
    assert set(statuses.values()) == {"OK"}
    assert busy <= set(found)
    assert code == int("FAIL" in {finding["status"] for finding in found.values()})
    assert re.search(r"\b10\b", found["server version"]["measured"])
    commands = healthy.read_text()
    assert "Client connected" in commands
    assert not re.search(r"Move|kGrasp|kHoming|kStop|Recovery", commands)


def test_a_pressed_stop_a_joint_at_its_limit_and_an_unhomed_gripper_are_told(
    capsys, tmp_path, logs
):
    joints = list(READY)
    joints[3] = FR3_JOINT_4 + 0.02
    faults = ("--mode", "kUserStopped", "--not-homed", "--joints", *joints)
    with server("faulty", logs / "faulty", *faults):
        code, found = report(capsys, tmp_path, ADDRESSES["faulty"], *ROBOT_ONLY, "workspace")
    assert code == 1
    failed = {check for check, finding in found.items() if finding["status"] == "FAIL"}
    assert failed - {"largest gap"} == {"robot mode", "user stop", "homed"}
    assert found["joints"]["status"] == "WARN"
    assert "joint 4" in found["joints"]["measured"]
    assert all(found[check]["advice"] for check in failed)


def test_a_robot_of_an_older_version_gets_the_line_that_installs_its_franky(capsys, tmp_path, logs):
    with server("older", logs / "older", "--refuse", 5, "--no-gripper"):
        code, found = report(capsys, tmp_path, ADDRESSES["older"], *ROBOT_ONLY)
    assert code == 1
    assert found["server version"]["status"] == found["connection"]["status"] == "FAIL"
    assert "by-robot-server-version/5/" in found["server version"]["advice"]
    assert found[f"port {GRIPPER_PORT} (gripper)"]["status"] == "FAIL"
    assert found["gripper"]["status"] == "SKIPPED"
    # Servers of this version belong to a Panda, which has other limits.
    assert "panda" in found["workspace"]["measured"]


def test_closed_ports_are_told_and_what_needs_them_is_skipped(capsys, tmp_path):
    code, found = report(capsys, tmp_path, ADDRESSES["nobody"], *ROBOT_ONLY)
    assert code == 1
    assert found["host"]["status"] == "OK"
    assert found[f"port {ARM_PORT} (arm)"]["status"] == "FAIL"
    assert found["robot"]["status"] == found["gripper"]["status"] == "SKIPPED"
    assert found["workspace"]["status"] == "OK"


def test_a_robot_that_does_not_answer_is_not_fit_although_the_network_is_left_out(capsys, tmp_path):
    words = ("--skip", "network", "computer", "workspace", "camera", "model", "ros")
    code, found = report(capsys, tmp_path, ADDRESSES["nobody"], *words)
    assert code == 1
    assert found["robot"]["status"] == found["gripper"]["status"] == "FAIL"


def test_what_was_not_looked_at_is_named_and_is_not_called_fit(capsys, tmp_path):
    code, _ = report(capsys, tmp_path, ADDRESSES["nobody"], *WITHOUT_ROBOT, "camera", "model")
    told = json.loads((tmp_path / "findings.json").read_text())
    assert code == 0 and told["fit"] is False
    assert told["not_looked_at"] == [*WITHOUT_ROBOT[1:], "camera", "model"]


def test_settings_of_another_robot_are_told():
    def statuses(realtime=True, robot="franka", **changes):
        settings = ControllerNodeSettings(robot=robot, franka=FrankaSettings(**changes))
        findings = configured_findings(settings, "172.16.0.2", "fr3", realtime)
        return [finding.status for finding in findings]

    assert statuses() == [Status.OK]
    assert statuses(robot="simulator") == [Status.WARN]
    assert statuses(host="172.16.0.3", model="panda") == [Status.FAIL, Status.FAIL]
    assert statuses(realtime=False) == [Status.WARN]


@contextmanager
def full_ports(host):
    """Ports that drop every further request to connect, as a host behind a firewall does."""
    with ExitStack() as sockets:
        for port in (ARM_PORT, GRIPPER_PORT):
            listener = sockets.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(0)
            for _ in range(3):
                client = sockets.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex((host, port))
        yield


def test_a_host_that_drops_packets_does_not_hold_it_up(capsys, tmp_path):
    begin = time.monotonic()
    with full_ports(ADDRESSES["dropping"]):
        code, found = report(capsys, tmp_path, ADDRESSES["dropping"], *ROBOT_ONLY, "workspace")
    assert time.monotonic() - begin < 10.0
    assert code == 1
    assert found["host"]["status"] == "FAIL"
    assert found["robot"]["status"] == "SKIPPED"


def test_a_server_that_answers_nothing_is_told(capsys, tmp_path):
    with ExitStack() as sockets:
        for port in (ARM_PORT, GRIPPER_PORT):
            listener = sockets.enter_context(socket.create_server((ADDRESSES["silent"], port)))
            listener.listen(8)
        with pytest.raises(server_version.ServerVersionError):
            server_version.read_server_version(ADDRESSES["silent"], timeout=0.2)
        words = (*ROBOT_ONLY, "gripper", "workspace", "camera")
        code, found = report(capsys, tmp_path, ADDRESSES["silent"], *words)
    assert code == 1
    assert found["server version"]["status"] == "FAIL"


def test_without_franky_the_version_is_read_all_the_same(healthy, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(server_version, "installed_franky", lambda: "")
    words = (*ROBOT_ONLY, "workspace")
    code, found = report(capsys, tmp_path, ADDRESSES["healthy"], *words)
    assert code == 1
    assert found["server version"]["status"] == "FAIL"
    assert "by-robot-server-version/10/" in found["server version"]["advice"]
    assert found["gripper"]["status"] == "SKIPPED"


def test_an_arm_in_use_by_another_program_is_told(healthy, capsys, tmp_path):
    words = (*ROBOT_ONLY, "workspace", "gripper")
    with socket.create_connection((ADDRESSES["healthy"], ARM_PORT)):
        code, found = report(capsys, tmp_path, ADDRESSES["healthy"], *words)
    assert code == 1
    assert found["server version"]["status"] == "FAIL"
    assert "other programs" in found["server version"]["advice"]


def test_versions_without_a_wheel_get_no_line_to_install_one():
    assert server_version.install_line(1) == server_version.install_line(11) == ""
    assert server_version.version_finding(11, "2.0.0", True).status is Status.FAIL


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--robot-ip", "127.0.5.4", "--seconds", "0"],
        ["--robot-ip", "127.0.5.4", "--realtime", "maybe"],
    ],
)
def test_wrong_arguments_end_with_2(words):
    parser = argparse.ArgumentParser()
    preflight.add_arguments(parser)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(words)
    assert ended.value.code == 2


def test_a_configuration_that_cannot_be_read_ends_with_2(tmp_path):
    parser = argparse.ArgumentParser()
    preflight.add_arguments(parser)
    words = ["--robot-ip", ADDRESSES["nobody"], "--config", str(tmp_path / "absent.yaml")]
    assert preflight.run(parser.parse_args(words)) == 2


# What was read --------------------------------------------------------------------------------


def reading(robot_time, **fields):
    values = {
        "robot_time": np.array(robot_time),
        "arrival": 1e-3 * np.array(robot_time, float),
        "system_seconds": 1e-3 * float(robot_time[-1] - robot_time[0]),
        "mode": "Idle",
        "modes": ("Idle",),
        "errors": (),
        "last_motion_errors": (),
        "joints": np.array(READY),
        "end_effector_mass": 0.73,
        "load_mass": 0.0,
        "total_mass": 0.73,
        "flange_to_end_effector": np.eye(4),
        "success_rate": 0.0,
        "realtime_refusal": "",
    }
    return RobotReading(**(values | fields))


def by_check(findings):
    return {finding.check: finding for finding in findings}


def test_states_without_a_gap_are_fit():
    found = by_check(robot.communication_findings(reading(range(1000))))
    assert found["states"].status is found["largest gap"].status is Status.OK
    assert "0 of 999 missing" in found["states"].measured


def test_a_gap_that_would_end_a_motion_is_not_fit():
    found = by_check(robot.communication_findings(reading([*range(1000), *range(1025, 1100)])))
    assert found["largest gap"].status is Status.FAIL
    assert found["states"].status is Status.WARN
    assert "25 of 1099 missing" in found["states"].measured


def test_a_robot_time_that_stands_still_is_not_fit():
    found = by_check(robot.communication_findings(reading([7, 7, 7])))
    assert found["states"].status is Status.FAIL


def test_a_success_rate_is_told_of_a_motion_only():
    found = by_check(robot.communication_findings(reading(range(9), success_rate=0.5)))
    assert found["success rate"].status is Status.SKIPPED
    moving = reading(range(9), success_rate=0.5, modes=("Idle", "Move"))
    assert "0.5" in by_check(robot.communication_findings(moving))["success rate"].measured


def test_a_clock_that_drifts_is_told():
    drifting = reading(range(1001), system_seconds=1.01)
    assert robot.drift_finding(drifting).status is Status.WARN
    assert robot.drift_finding(reading(range(1001))).status is Status.OK


def test_errors_are_named():
    stopped = reading(range(9), mode="Reflex", errors=("joint_reflex",))
    found = by_check(robot.mode_findings(stopped))
    assert found["robot mode"].status is found["errors"].status is Status.FAIL
    assert "joint_reflex" in found["errors"].measured


@pytest.mark.parametrize(
    ("angle", "status"),
    [(FR3_JOINT_4 + 0.2, Status.OK), (FR3_JOINT_4 + 0.05, Status.WARN), (-3.2, Status.FAIL)],
)
def test_a_joint_is_judged_by_its_distance_to_the_limit(angle, status):
    joints = np.array(READY)
    joints[3] = angle
    assert robot.joint_finding(reading(range(9), joints=joints), "fr3").status is status


# Workspace ------------------------------------------------------------------------------------


def test_the_shipped_workspace_is_within_reach_of_both_arms():
    assert workspace_finding(Workspace(), "fr3").status is Status.OK
    assert workspace_finding(Workspace(), "panda").status is Status.OK


@pytest.mark.parametrize(
    "box",
    [
        Workspace((0.33, -0.25, 0.03), (1.2, 0.25, 0.36)),
        Workspace((0.12, -0.25, 0.03), (0.66, 0.25, 0.36)),
    ],
    ids=["too far", "too near"],
)
def test_a_workspace_beyond_the_arm_is_not_fit(box):
    assert workspace_finding(box, "fr3").status is Status.FAIL


# This computer --------------------------------------------------------------------------------


def test_a_kernel_without_real_time_is_refused_only_where_it_is_needed(tmp_path):
    plain = {"root": tmp_path, "version": "#1 SMP PREEMPT_DYNAMIC"}
    assert computer.kernel_finding(True, **plain).status is Status.FAIL
    assert computer.kernel_finding(False, **plain).status is Status.WARN
    file = tmp_path / "sys/kernel/realtime"
    file.parent.mkdir(parents=True)
    file.write_text("1\n")
    assert computer.kernel_finding(True, **plain).status is Status.OK


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((99, 102400 * 1024, 1000), [Status.OK, Status.OK]),
        ((0, 8192 * 1024, 1000), [Status.FAIL, Status.FAIL]),
        ((-1, -1, 1000), [Status.OK, Status.OK]),
        ((0, 0, 0), [Status.OK, Status.OK]),
    ],
    ids=["set", "not set", "unlimited", "root"],
)
def test_limits_are_those_of_the_instructions(limits, expected):
    assert [finding.status for finding in computer.limit_findings(True, *limits)] == expected


@pytest.mark.parametrize(
    ("names", "status"),
    [
        ([], Status.SKIPPED),
        (["performance", "performance"], Status.OK),
        (["performance", "powersave"], Status.WARN),
    ],
    ids=["none", "performance", "mixed"],
)
def test_every_processor_has_to_keep_its_frequency(names, status, tmp_path):
    for number, name in enumerate(names):
        file = tmp_path / f"sys/devices/system/cpu/cpu{number}/cpufreq/scaling_governor"
        file.parent.mkdir(parents=True)
        file.write_text(name + "\n")
    assert computer.governor_finding(tmp_path).status is status


def test_the_clock_is_judged_by_what_the_kernel_says():
    assert computer.clock_finding(None).status is Status.SKIPPED
    assert computer.clock_finding(computer.ClockState(True, 0.004)).status is Status.OK
    assert computer.clock_finding(computer.ClockState(False, 16.0)).status is Status.WARN
    clock = computer.read_clock()
    assert clock is None or clock.error >= 0.0


# Camera, model and ROS --------------------------------------------------------------------------


def camera_of(folder, pixels):
    folder.mkdir()
    cv2.imwrite(str(folder / "1.png"), pixels)
    return CameraNodeSettings(source="folder", path=str(folder))


def test_a_scene_is_seen(capsys, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    folder = camera_of(tmp_path / "images", pixels).path
    words = (*WITHOUT_ROBOT, "model", "ros", "--camera", folder)
    code, found = report(capsys, tmp_path, ADDRESSES["nobody"], *words)
    assert found["brightness"]["status"] == found["image age"]["status"] == "OK"
    assert "64x48" in found["camera"]["measured"]
    assert code == 0


@pytest.mark.parametrize("value", [0, 128], ids=["black", "grey"])
def test_an_image_without_a_scene_is_not_fit(value, tmp_path):
    settings = camera_of(tmp_path / "images", np.full((48, 64, 3), value, np.uint8))
    found = by_check(camera.camera_findings(camera.read_camera(print, settings, 0.3), 10.0, 5.0))
    assert found["brightness"].status is Status.FAIL


def test_an_absent_camera_is_told(capsys, tmp_path):
    words = (*WITHOUT_ROBOT, "model", "ros", "--camera", "/dev/video99")
    code, found = report(capsys, tmp_path, ADDRESSES["nobody"], *words)
    assert code == 1
    assert found["camera"]["status"] == "FAIL"


def test_an_absent_checkpoint_is_told(tmp_path):
    absent = ModelSettings(checkpoint=str(tmp_path / "absent"))
    settings = replace(PlannerNodeSettings(), model=absent)
    found = by_check(model.model_findings(model.read_model(lambda _: None, settings), 5.0))
    assert found["model"].status is Status.FAIL


def test_a_model_is_measured_by_a_plan(tmp_path):
    save_world_model(small_world_model(), tmp_path, card={})
    settings = replace(PlannerNodeSettings(), model=ModelSettings("cpu", checkpoint=str(tmp_path)))
    measured = model.read_model(lambda _: None, settings)
    assert measured.encode_seconds > 0.0
    assert measured.plan_seconds > 0.0
    assert by_check(model.model_findings(measured, 1e6))["plan in time"].status is Status.OK


def test_a_model_that_plans_too_slowly_is_told():
    slow = model.ModelReading("model", "CPU", "float32", 0, 0, 1.0, 1.0, plan_seconds=2.0)
    for max_age, status in ((2.0, Status.FAIL), (5.0, Status.WARN), (9.0, Status.OK)):
        assert by_check(model.model_findings(slow, max_age))["plan in time"].status is status


def test_the_environment_is_told():
    found = by_check(environment_findings({"ROS_DOMAIN_ID": "7"}))
    assert found["domain"].status is Status.OK
    assert by_check(environment_findings({}))["domain"].status is Status.WARN


def test_hosts_are_those_of_the_heartbeats():
    heard = [("/a/encoder", "gpu:1:00"), ("/a/planner", "gpu:2:00"), ("/a/controller", "arm:1:00")]
    hosts = instances(heard)
    assert hosts == {"gpu": {"/a/encoder", "/a/planner"}, "arm": {"/a/controller"}}
    assert "arm (this one)" in hosts_finding(hosts, "arm").measured


# Processes ------------------------------------------------------------------------------------


def test_a_measurement_returns_and_reports_how_far_it_is():
    seen = []
    assert measure(succeeds, 7, timeout=DEADLINE, on_progress=seen.append) == 7
    assert seen == [0.5]


def test_a_measurement_that_does_not_end_is_ended():
    with pytest.raises(MeasurementError, match="within 1 s"):
        measure(never_ends, timeout=1.0)


@pytest.mark.parametrize(("function", "text"), [(dies, "code 3"), (fails, "too bad")])
def test_a_measurement_that_fails_says_why(function, text):
    with pytest.raises(MeasurementError, match=text):
        measure(function, timeout=DEADLINE)
