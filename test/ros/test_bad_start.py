# SPDX-License-Identifier: Apache-2.0
"""What a node says when it cannot start, and what the runner makes of it."""

import fcntl
import os
import re
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from array import array

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from policy import allowed, graph_of
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from vjepa2_ros.ros.image_transport import COMPRESSED_TOPIC
from vjepa2_ros.settings.stack import MANAGER
from vjepa2_ros.stack.process_group import ProcessGroup, ProcessGroupError
from vjepa2_ros.stack.start import start_stack

DEADLINE = 180.0


def end_of(group, name):
    """Exit code and output of a process that ends by itself."""
    code = group.wait_for_end(name, DEADLINE)
    return code, "\n".join(group.processes[name].lines)


def test_an_unknown_parameter_is_refused_with_its_name_and_the_likely_one(group):
    group.start_node("camera_node", {"ratte": 5.0}, "/alone")
    code, said = end_of(group, "camera_node")
    assert code == 1 and "unknown parameter 'ratte' (did you mean 'rate'?)" in said


def test_every_bad_value_is_named_with_what_is_allowed(group):
    bad = {"rate": -1.0, "source": "telescope", "path": 5, "intrinsics": [1.0, 2.0]}
    group.start_node("camera_node", bad, "/alone")
    code, said = end_of(group, "camera_node")
    assert code == 1
    assert "rate is -1.0, but must be from 0.1 to 120.0 Hz" in said
    assert "source is 'telescope', but must be one of device, video, folder" in said
    assert "path must be of type text, not integer (5)" in said
    assert "intrinsics must have 4 entries, not 2" in said


def test_a_parameter_file_that_is_not_there_is_named(group, tmp_path):
    file = ["--params-file", str(tmp_path / "absent.yaml")]
    group.start_node("camera_node", namespace="/alone", ros_arguments=file)
    code, said = end_of(group, "camera_node")
    assert code == 1 and "absent.yaml" in said


def test_an_unknown_parameter_of_the_runner_is_refused(group):
    group.start_node(MANAGER, {"node": ["camera_node"]}, "/alone")
    code, said = end_of(group, MANAGER)
    assert code == 1 and "unknown parameter 'node' (did you mean 'nodes'?)" in said


def test_a_missing_checkpoint_is_reported_through_the_runner(group, tmp_path):
    absent = str(tmp_path / "no_model")
    parameters = {"encoder_node": {"checkpoint": absent}}
    with pytest.raises(ProcessGroupError) as caught:
        start_stack(group, ("encoder_node",), parameters, "/no_model")
    text = str(caught.value)
    assert "lifecycle_manager ended with exit code 1" in text
    assert f"encoder_node did not configure: cannot configure: no checkpoint at {absent}" in text
    assert "give a model folder" in text


def test_a_camera_that_is_not_there_is_reported_and_the_node_can_be_tried_again(group, tmp_path):
    parameters = {"camera_node": {"path": "/dev/video97"}}
    with pytest.raises(ProcessGroupError) as caught:
        start_stack(group, ("camera_node",), parameters, "/no_camera")
    assert "camera_node did not configure" in str(caught.value)
    assert "no camera at /dev/video97" in str(caught.value) and "Plug it in" in str(caught.value)
    assert group.processes["camera_node"].popen.poll() is None, "the node itself must stay up"


def test_a_node_that_never_appears_is_named_with_where_it_was_looked_for(group):
    parameters = {"nodes": ["gripper_node"], "discovery_timeout": 1.0}
    group.start_node(MANAGER, parameters, "/nobody")
    code, said = end_of(group, MANAGER)
    assert code == 1 and "gripper_node did not appear within 1 s" in said and "/nobody" in said


# Before anything heavy is loaded -------------------------------------------------------------


def test_a_bad_parameter_is_refused_with_one_line_before_torch_is_loaded(tmp_path):
    """A refusal once came after seconds of imports."""
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    command = [sys.executable, "-m", "vjepa2_ros.nodes", "encoder_node"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    refused = subprocess.run(
        [*command, "--ros-args", "-p", "thread:=3"], env=environment, capture_output=True, text=True
    )
    assert refused.returncode == 1 and refused.stdout == ""
    assert refused.stderr == "encoder_node: unknown parameter 'thread' (did you mean 'threads'?)\n"
    accepted = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "torch was imported" in accepted.stderr, "the test would not notice"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_imports_ends_a_node_silently(number, tmp_path):
    """It once ended in tracebacks, under which the one clear line of another node was lost."""
    (tmp_path / "torch.py").write_text(
        "import time\nprint('importing', flush=True)\n"
        "try:\n    time.sleep(1000)\nexcept BaseException as e:\n    raise ImportError('x') from e"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "vjepa2_ros.nodes", "encoder_node"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    assert process.communicate(timeout=DEADLINE)[0] == "" and process.returncode == 0


def test_a_node_can_be_started_by_its_own_module(group):
    command = [sys.executable, "-m", "vjepa2_ros.nodes.camera_node"]
    group.start("camera_node", [*command, "--ros-args", "-p", "ratte:=5.0"])
    code, said = end_of(group, "camera_node")
    assert code == 1 and said.count("\n") == 0 and "did you mean 'rate'" in said


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(3):
        image = np.full((48, 64, 3), 60 * index, np.uint8)
        assert cv2.imwrite(str(folder / f"{index}.png"), image)
    return folder


def test_a_folder_of_pictures_is_a_camera(group, pictures, bench):
    parameters = {"camera_node": {"source": "folder", "path": str(pictures), "rate": 50.0}}
    start_stack(group, ("camera_node",), parameters, "/bench")
    mark = bench.mark("camera/image_raw")
    image = bench.wait("camera/image_raw", after=mark)
    assert (image.width, image.height, image.encoding) == (64, 48, "rgb8")
    info = bench.wait("camera/camera_info")
    assert info.width == 64 and info.k[0] == 0.0, "not calibrated"
    bench.wait("camera/image_raw", lambda m: m.data[0] == 120)
    compressed = ("publisher", f"/bench/{COMPRESSED_TOPIC}")
    expected = allowed("camera_node", "/bench") - {compressed, ("subscriber", "/clock")}
    assert graph_of(bench.node, "camera_node", "/bench") == expected, "the policy of SROS 2"


def test_a_camera_that_breaks_off_brings_the_stack_down(group, pictures):
    (pictures / "1.png").write_bytes(b"broken")
    parameters = {"camera_node": {"source": "folder", "path": str(pictures), "rate": 2.0}}
    start_stack(group, ("camera_node",), parameters, "/broken_camera")
    code, said = end_of(group, MANAGER)
    assert code == 1 and "camera_node is inactive" in said and "1.png cannot be decoded" in said


def test_a_killed_node_brings_the_stack_down_within_the_heartbeat(group, pictures):
    parameters = {
        "camera_node": {"source": "folder", "path": str(pictures)},
        MANAGER: {"heartbeat_timeout": 2.0},
    }
    start_stack(group, ("camera_node", "controller_node"), parameters, "/killed")
    group.processes["camera_node"].popen.kill()
    code, said = end_of(group, MANAGER)
    assert code == 1 and "camera_node has been silent" in said
    group.wait_for_line("controller_node", "deactivate: done", DEADLINE)


def test_a_signal_ends_runner_and_node_in_order_with_exit_code_zero(group, pictures):
    parameters = {"camera_node": {"source": "folder", "path": str(pictures)}}
    start_stack(group, ("camera_node",), parameters, "/interrupted")
    group.processes[MANAGER].popen.terminate()
    assert end_of(group, MANAGER)[0] == 0
    group.processes["camera_node"].popen.terminate()
    code, said = end_of(group, "camera_node")
    assert code == 0 and "deactivate: done" in said and "Traceback" not in said


# Two stacks ---------------------------------------------------------------------------------


def manager_of(group, namespace, nodes=("camera_node",)):
    """Start a manager that listens long enough to hear others on a machine under load."""
    parameters = {"nodes": list(nodes), "listening_time": 10.0}
    group.start_node(MANAGER, parameters, namespace)


def test_a_second_manager_refuses_to_touch_the_nodes_of_the_first(group, pictures):
    """Two stacks in one namespace once took each other's nodes over, and both went down."""
    parameters = {"camera_node": {"source": "folder", "path": str(pictures)}}
    start_stack(group, ("camera_node",), parameters, "/twice")
    with ProcessGroup() as second:
        # As from another machine, where no claim of the namespace is seen.
        second.start_node("camera_node", parameters["camera_node"], "/twice")
        manager_of(second, "/twice")
        code, said = end_of(second, MANAGER)
        assert code == 1
        assert "another stack runs in namespace /twice, ROS domain" in said and "stop it" in said
        assert "is active" not in said and "bringing all nodes down" not in said
    # Longer than the first manager would need to notice a node that is not active.
    threading.Event().wait(3.0)
    group.check()
    first = "\n".join(group.processes[MANAGER].lines)
    assert "bringing all nodes down" not in first
    assert first.count("ignoring another camera_node") <= 1


def test_a_node_that_runs_twice_is_refused_without_touching_either(group, pictures, bench):
    parameters = {"source": "folder", "path": str(pictures)}
    group.start_node("camera_node", parameters, "/double")
    heard = set()

    def both(message):
        (status,) = message.status
        values = {entry.key: entry.value for entry in status.values}
        if status.name == "/double/camera_node":
            heard.add(values["instance"])
        return len(heard) == 2

    with ProcessGroup() as other:
        other.start_node("camera_node", parameters, "/double")
        # A manager that comes before the second node finds one alone, and rightly begins.
        bench.wait("/diagnostics", both, after=0)
        manager_of(group, "/double")
        code, said = end_of(group, MANAGER)
        assert code == 1 and "camera_node are the processes" in said
        for processes in (group, other):
            lines = processes.processes["camera_node"].lines
            assert not any("configure" in line for line in lines)


def test_foreign_diagnostics_do_not_end_the_stack(group, pictures, bench):
    """One message in the name of a node, saying that it is inactive, once brought all down."""
    parameters = {"camera_node": {"source": "folder", "path": str(pictures)}}
    start_stack(group, ("camera_node",), parameters, "/bench")
    values = [KeyValue(key="lifecycle", value="inactive")]
    for extra in ([], [KeyValue(key="instance", value="elsewhere:1:0")]):
        status = DiagnosticStatus(name="/bench/camera_node", message="x", values=values + extra)
        publisher = bench.node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        bench.wait_until(lambda p=publisher: p.get_subscription_count() > 0)
        for _ in range(30):
            publisher.publish(DiagnosticArray(status=[status]))
            threading.Event().wait(0.1)
        bench.run(lambda p=publisher: bench.node.destroy_publisher(p))
    group.check()
    said = "\n".join(group.processes[MANAGER].lines)
    assert said.count("ignoring another camera_node in this namespace: process elsewhere:1") == 1


# The end ------------------------------------------------------------------------------------


def test_a_signal_to_all_at_once_brings_the_stack_down_in_order(group, pictures):
    parameters = {"camera_node": {"source": "folder", "path": str(pictures)}}
    ended = []
    group = ProcessGroup(on_line=lambda name, line: ended.append((name, line)))
    with group:
        start_stack(group, ("controller_node", "camera_node"), parameters, "/all_at_once")
        for process in group.processes.values():
            process.popen.send_signal(signal.SIGINT)
        for name in group.processes:
            assert group.wait_for_end(name, DEADLINE) == 0
    steps = [(name, line.split()[-2]) for name, line in ended if line.endswith(": done")]
    down = [name for name, step in steps if step == "deactivate:"]
    assert down == ["controller_node", "camera_node"]


class Steps:
    """What nodes logged, in the order of the stamps: lines of several may overtake each other."""

    def __init__(self):
        self._lines = []

    def add(self, line, name):
        stamp = float(re.search(r"\[(\d+\.\d+)\]", line)[1])
        self._lines.append((stamp, name))

    def __eq__(self, names):
        return [name for _, name in sorted(self._lines)] == names

    def __len__(self):
        return len(self._lines)

    def __repr__(self):
        return repr(sorted(self._lines))


@pytest.fixture
def small_stack(pictures):
    """A robot and a camera that are active, and the steps on their way down, with their names."""
    steps = Steps()

    def on_line(name, line):
        if line.endswith("deactivate: done"):
            steps.add(line, name)

    parameters = {"camera_node": {"source": "folder", "path": str(pictures)}}
    with ProcessGroup(on_line) as group:
        start_stack(group, ("controller_node", "camera_node"), parameters, "/small")
        yield group, steps


def test_after_the_manager_was_killed_the_nodes_end_one_by_one_in_order(small_stack):
    """They once waited until it had left the discovery graph, and the robot moved on for 20 s."""
    group, deactivated = small_stack
    group.processes[MANAGER].popen.kill()
    begun = time.monotonic()
    group.stop()
    assert time.monotonic() - begun < 15.0 and group.killed == []
    assert deactivated == ["controller_node", "camera_node"]


def test_a_manager_that_hangs_is_noticed_by_the_nodes_which_end(small_stack):
    group, deactivated = small_stack
    group.processes[MANAGER].popen.send_signal(signal.SIGSTOP)
    for name in ("camera_node", "controller_node"):
        assert group.wait_for_end(name, DEADLINE) == 1
        assert "has fallen silent" in "".join(group.processes[name].lines)
    group.stop()
    assert group.killed == [MANAGER] and len(deactivated) == 2


def test_a_signal_to_one_node_brings_all_down_in_order(small_stack):
    """It once left its end to a manager that knew nothing of it."""
    group, deactivated = small_stack
    group.processes["controller_node"].popen.terminate()
    assert group.wait_for_end(MANAGER, DEADLINE) == 1
    assert "controller_node was told to end" in "".join(group.processes[MANAGER].lines)
    assert group.wait_for_end("controller_node", DEADLINE) == 0
    group.stop()
    assert deactivated == ["controller_node", "camera_node"]


def test_a_node_that_was_killed_does_not_hold_up_the_others(small_stack):
    group, deactivated = small_stack
    group.processes["camera_node"].popen.kill()
    begun = time.monotonic()
    group.stop()
    assert time.monotonic() - begun < 10.0 and group.killed == []
    assert deactivated == ["controller_node"]


def test_a_killed_starter_brings_all_down_and_leaves_nothing(tmp_path, pictures):
    code = (
        "import sys; from vjepa2_ros.stack.process_group import ProcessGroup\n"
        "from vjepa2_ros.stack.start import start_stack\n"
        # What the nodes say would stand between the numbers.
        "group = ProcessGroup(on_line=lambda name, line: None)\n"
        f"parameters = {{'camera_node': {{'source': 'folder', 'path': {str(pictures)!r}}}}}\n"
        "start_stack(group, ('controller_node', 'camera_node'), parameters, '/orphans')\n"
        "print('pids', *(p.popen.pid for p in group.processes.values()), flush=True)\n"
        "import time; time.sleep(1000)"
    )
    starter = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    line = next(line for line in starter.stdout if line.startswith("pids"))
    descriptors = [os.pidfd_open(int(pid)) for pid in line.split()[1:]]
    starter.kill()
    starter.stdout.close()
    starter.wait(DEADLINE)
    end = time.monotonic() + DEADLINE
    for descriptor in descriptors:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        assert poll.poll(max(0.0, end - time.monotonic()) * 1e3), "a process outlived its starter"
        os.close(descriptor)


# A log that is not read ---------------------------------------------------------------------


def test_a_controller_whose_log_is_not_read_goes_on_and_answers_halt(bench):
    """Behind a full pipe it once stood still, with its watchdogs and `halt`."""
    command = [sys.executable, "-m", "vjepa2_ros.nodes", "controller_node", "--ros-args"]
    command += ["-r", "__ns:=/bench", "--log-level", "debug"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        assert bench.change("controller_node", "configure")
        assert bench.change("controller_node", "activate")
        # Debug messages of ROS fill the pipe many times over.
        bench.wait_until(lambda: unread(process.stdout) > 60_000)
        threading.Event().wait(1.0)
        bench.call(Trigger, "halt", Trigger.Request(), deadline=10.0)
        process.terminate()
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
        process.stdout.close()


def unread(pipe):
    """Bytes that wait in a pipe."""
    count = array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


# At run time --------------------------------------------------------------------------------


def test_a_parameter_that_needs_a_restart_says_so_and_the_others_change(group, bench):
    """Parameters could once be changed only by taking the stack down."""
    start_stack(group, ("controller_node",), namespace="/bench")

    def change(name, value):
        parameter = Parameter(name, value=value).to_parameter_msg()
        request = SetParameters.Request(parameters=[parameter])
        return bench.call(SetParameters, "controller_node/set_parameters", request).results[0]

    assert change("max_step", 0.05).successful
    wider = change("max_step", 0.5)
    assert not wider.successful and "only become narrower" in wider.reason
    restart = change("state_rate", 20.0)
    assert not restart.successful
    assert "state_rate cannot change while the node is active" in restart.reason
    assert "deactivate and clean it up" in restart.reason
