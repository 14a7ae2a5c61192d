# SPDX-License-Identifier: Apache-2.0
"""What a node says when it cannot start, and what the runner makes of it."""

import cv2
import numpy as np
import pytest

from vjepa2_ros.stack.process_group import ProcessGroupError
from vjepa2_ros.stack.start import start_stack

DEADLINE = 90.0


def end_of(group, name):
    """Exit code and output of a process that ends by itself."""
    code = group.wait_for_end(name, DEADLINE)
    return code, "\n".join(group.processes[name].lines)


def test_an_unknown_parameter_is_refused_with_its_name_and_the_likely_one(group):
    group.start_node("camera_node", {"ratte": 5.0}, namespace="/alone")
    code, said = end_of(group, "camera_node")
    assert code == 1 and "unknown parameter 'ratte' (did you mean 'rate'?)" in said


def test_every_bad_value_is_named_with_what_is_allowed(group):
    bad = {"rate": -1.0, "source": "telescope", "path": 5, "intrinsics": [1.0, 2.0]}
    group.start_node("camera_node", bad, namespace="/alone")
    code, said = end_of(group, "camera_node")
    assert code == 1
    assert "rate is -1.0, but must be from 0.1 to 120.0 Hz" in said
    assert "source is 'telescope', but must be one of device, video, folder" in said
    assert "path must be of type str, not int (5)" in said
    assert "intrinsics must have 4 entries, not 2" in said


def test_a_parameter_file_that_is_not_there_is_named(group, tmp_path):
    group.start_node("camera_node", config=tmp_path / "absent.yaml", namespace="/alone")
    code, said = end_of(group, "camera_node")
    assert code == 1 and "absent.yaml" in said


def test_an_unknown_parameter_of_the_runner_is_refused(group):
    group.start_node("lifecycle_manager", {"node": ["camera_node"]}, namespace="/alone")
    code, said = end_of(group, "lifecycle_manager")
    assert code == 1 and "unknown parameter 'node' (did you mean 'nodes'?)" in said


def test_a_missing_checkpoint_is_reported_through_the_runner(group, tmp_path):
    absent = str(tmp_path / "no_model")
    with pytest.raises(ProcessGroupError) as caught:
        start_stack(group, ("encoder_node",), checkpoint=absent, namespace="/no_model")
    text = str(caught.value)
    assert "lifecycle_manager ended with exit code 1" in text
    assert f"encoder_node did not configure: cannot configure: no checkpoint at {absent}" in text
    assert "give a model folder" in text


def test_a_camera_that_is_not_there_is_reported_and_the_node_can_be_tried_again(group, tmp_path):
    parameters = {"camera_node": {"path": "/dev/video97"}}
    with pytest.raises(ProcessGroupError) as caught:
        start_stack(group, ("camera_node",), parameters, namespace="/no_camera")
    assert "camera_node did not configure" in str(caught.value)
    assert "no camera at /dev/video97" in str(caught.value) and "Plug it in" in str(caught.value)
    assert group.processes["camera_node"].popen.poll() is None, "the node itself must stay up"


def test_a_node_that_never_appears_is_named_with_where_it_was_looked_for(group):
    parameters = {"nodes": ["gripper_node"], "discovery_timeout": 1.0}
    group.start_node("lifecycle_manager", parameters, namespace="/nobody")
    code, said = end_of(group, "lifecycle_manager")
    assert code == 1 and "gripper_node did not appear within 1 s" in said and "/nobody" in said


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
    start_stack(group, ("camera_node",), parameters, namespace="/bench")
    mark = bench.mark("camera/image_raw")
    image = bench.wait("camera/image_raw", after=mark)
    assert (image.width, image.height, image.encoding) == (64, 48, "rgb8")
    info = bench.wait("camera/camera_info")
    assert info.width == 64 and info.k[0] == 0.0, "not calibrated"
    bench.wait("camera/image_raw", lambda m: m.data[0] == 120)


def test_a_camera_that_breaks_off_brings_the_stack_down(group, pictures):
    (pictures / "1.png").write_bytes(b"broken")
    parameters = {"camera_node": {"source": "folder", "path": str(pictures), "rate": 2.0}}
    start_stack(group, ("camera_node",), parameters, namespace="/broken_camera")
    code, said = end_of(group, "lifecycle_manager")
    assert code == 1 and "camera_node is inactive" in said and "1.png cannot be decoded" in said


def test_a_killed_node_brings_the_stack_down_within_the_heartbeat(group, pictures):
    parameters = {
        "camera_node": {"source": "folder", "path": str(pictures)},
        "lifecycle_manager": {"heartbeat_timeout": 2.0},
    }
    start_stack(group, ("camera_node", "controller_node"), parameters, namespace="/killed")
    group.processes["camera_node"].popen.kill()
    code, said = end_of(group, "lifecycle_manager")
    assert code == 1 and "camera_node has been silent" in said
    group.wait_for_line("controller_node", "deactivate: done", DEADLINE)


def test_a_signal_ends_runner_and_node_in_order_with_exit_code_zero(group, pictures):
    parameters = {"camera_node": {"source": "folder", "path": str(pictures)}}
    start_stack(group, ("camera_node",), parameters, namespace="/interrupted")
    group.processes["lifecycle_manager"].popen.terminate()
    assert end_of(group, "lifecycle_manager")[0] == 0
    group.processes["camera_node"].popen.terminate()
    code, said = end_of(group, "camera_node")
    assert code == 0 and "deactivate: done" in said and "Traceback" not in said
