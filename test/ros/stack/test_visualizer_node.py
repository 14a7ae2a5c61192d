# SPDX-License-Identifier: Apache-2.0
"""What viewers are shown of the simulated stack, and that the stack does not depend on it."""

import json
from collections import defaultdict

import cv2
import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import Image
from std_msgs.msg import Float64, String
from std_srvs.srv import Trigger
from visualization_msgs.msg import Marker, MarkerArray

from stack.test_stack import encoded, set_goal
from vjepa2_ros.msg import Plan
from vjepa2_ros.robot.kinematics import FrankaKinematics
from vjepa2_ros.ros.conversions import image_array, seconds
from vjepa2_ros.ros.markers import planned_step
from vjepa2_ros.ros.qos import LATCHED, LATEST, TRANSFORMS, VIEW
from vjepa2_ros.settings.simulator import CAMERA_POSE
from vjepa2_ros.share import share_directory
from vjepa2_ros.srv import EnergyLandscape
from vjepa2_ros.stack.process_group import ProcessGroup

TFMessage = pytest.importorskip(
    "tf2_msgs.msg", reason="tf2_msgs IS ABSENT: no transform is tested"
).TFMessage
CONFIG = share_directory() / "config"
CLASSES = {
    "Image": "sensor_msgs/msg/Image",
    "MarkerArray": "visualization_msgs/msg/MarkerArray",
    "Wrench": "geometry_msgs/msg/WrenchStamped",
    "RobotModel": "std_msgs/msg/String",
}
"""Type that each display of RViz subscribes to."""


@pytest.fixture(scope="module")
def visualizer():
    with ProcessGroup() as group:
        group.start_node("visualizer_node", {"camera_pose": list(CAMERA_POSE)}, vital=False)
        yield group


@pytest.fixture(scope="module")
def watched(stack, visualizer):
    """The stack with the visualizer, which has been found."""
    node = "/vjepa2/visualizer_node"
    stack.wait("/diagnostics", lambda m: m.status[0].name == node, after=0)
    return stack


def listen(stack, kind, topic, qos):
    if not stack.mark(topic) and topic not in listen.topics:
        listen.topics.add(topic)
        stack.listen(kind, topic, qos)


listen.topics = set()


def shapes_of(message):
    return {marker.ns: marker for marker in message.markers if marker.action == Marker.ADD}


@pytest.fixture
def pursuing(watched):
    """A goal that is pursued: a picture of noise is never reached."""
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    noise = cv2.GaussianBlur(noise, (31, 31), 8)
    answer = set_goal(watched, [encoded(noise)], [200])
    assert answer.accepted, answer.message
    yield answer.goal_id
    watched.call(Trigger, "cancel", Trigger.Request())


def test_the_markers_show_candidates_path_workspace_and_camera(watched, pursuing):
    listen(watched, MarkerArray, "visualization/markers", VIEW)

    def is_complete(message):
        names = {"candidates", "elites", "chosen", "target", "driven", "workspace", "camera"}
        return names <= set(shapes_of(message))

    shapes = shapes_of(watched.wait("visualization/markers", is_complete))
    for marker in shapes.values():
        assert marker.header.frame_id == "base"
        assert len(marker.points) == len(marker.colors) > 0
    # Sixteen candidates of one action, a line each.
    assert len(shapes["candidates"].points) >= 2 * 16


def test_a_plan_is_published_while_somebody_listens(watched, pursuing):
    listen(watched, Plan, "plan", LATEST)
    message = watched.wait("plan", lambda m: m.goal_id == pursuing)
    step = planned_step(message)
    assert message.header.frame_id == "base" and message.horizon == 1
    assert len(step.energies) >= 16 and (np.diff(step.energies) >= 0).all()
    assert np.abs(step.candidates - step.start).max() <= 0.0751
    np.testing.assert_allclose(step.path[0], step.candidates[0, 0], atol=1e-3)


def test_the_difference_is_an_image_of_camera_goal_and_distance(watched, pursuing):
    listen(watched, Image, "visualization/difference", VIEW)
    shown = image_array(watched.wait("visualization/difference"))
    assert shown.shape == (256, 768, 3)
    camera = image_array(watched.messages("camera/image_raw")[-1])
    # The arm may have moved on; the rest of the scene has not.
    distance = np.abs(shown[:200, :256].astype(int) - camera[:200]).mean()
    assert distance < 12
    assert np.abs(shown[:200, 512:].astype(int) - camera[:200]).mean() > distance


def test_energy_prediction_and_surprise_come_as_plain_numbers(watched, pursuing):
    for name in ("energy", "predicted_energy", "surprise"):
        listen(watched, Float64, f"visualization/{name}", VIEW)
    status = watched.wait("status", lambda s: s.goal_id == pursuing and s.step >= 2)
    assert np.isfinite([status.energy, status.predicted_energy, status.surprise]).all()
    assert 0.0 < status.surprise < status.energy
    for name in ("energy", "predicted_energy", "surprise"):
        watched.wait(f"visualization/{name}", lambda number: np.isfinite(number.data), after=0)


def test_the_landscape_is_drawn_when_it_is_asked_for(watched, pursuing):
    listen(watched, Image, "visualization/landscape", LATCHED)
    watched.wait("status", lambda s: s.goal_id == pursuing and s.step >= 1, after=0)
    answer = watched.call(Trigger, "visualization/draw_landscape", Trigger.Request())
    assert answer.success, answer.message
    assert answer.message.startswith("450 energies")
    image = image_array(watched.wait("visualization/landscape", after=0))
    assert image.shape == (360, 800, 3) and image.std() > 20


def test_the_energies_of_the_landscape_are_those_of_the_planner(watched, pursuing):
    watched.wait("status", lambda s: s.goal_id == pursuing and s.step >= 1, after=0)
    answer = watched.call(
        EnergyLandscape, "energy_landscape", EnergyLandscape.Request(points=5)
    )
    assert answer.success and answer.points == 5 and answer.reach == pytest.approx(0.075)
    xy, xz = (np.array(part).reshape(5, 5) for part in (answer.xy, answer.xz))
    assert np.isfinite(xy).all() and np.isfinite(xz).all()
    # The two slices cross along x.
    np.testing.assert_allclose(xy[:, 2], xz[:, 2], atol=1e-5)


def test_the_landscape_without_a_goal_is_refused(watched):
    for service, kind in (
        ("energy_landscape", EnergyLandscape),
        ("visualization/draw_landscape", Trigger),
    ):
        answer = watched.call(kind, service, kind.Request())
        assert not answer.success and "set a goal" in answer.message


def test_the_transforms_lead_from_the_base_to_the_tool_and_the_camera(watched):
    listen(watched, TFMessage, "/tf", TRANSFORMS)
    listen(watched, TFMessage, "/tf_static", LATCHED)
    message = watched.wait("/tf", after=0)
    by_child = {t.child_frame_id: t for t in message.transforms}
    position, rotation, frame = np.zeros(3), Rotation.identity(), "fr3_hand_tcp"
    while frame != "base":
        transform = by_child[frame]
        t, q = transform.transform.translation, transform.transform.rotation
        turn = Rotation.from_quat([q.x, q.y, q.z, q.w])
        position, rotation = np.array([t.x, t.y, t.z]) + turn.apply(position), turn * rotation
        frame = transform.header.frame_id
    states = watched.messages("robot_state")
    measured = seconds(by_child["fr3_link1"].header.stamp)
    joints = min(states, key=lambda s: abs(seconds(s.header.stamp) - measured)).joint_positions
    expected, _ = FrankaKinematics().forward(np.array(joints))
    np.testing.assert_allclose(position, expected, atol=0.02)
    static = watched.wait("/tf_static", after=0).transforms[0]
    assert (static.header.frame_id, static.child_frame_id) == ("base", "camera")
    assert static.transform.translation.x == pytest.approx(CAMERA_POSE[0])


def test_the_description_names_the_joints_of_the_joint_states(watched):
    listen(watched, String, "robot_description", LATCHED)
    text = watched.wait("robot_description", after=0).data
    for number in range(1, 8):
        assert f'name="fr3_joint{number}"' in text
    assert "package://vjepa2_ros/meshes/link0.stl" in text


def offered(stack):
    """Types by topic of what has a publisher."""
    return {
        topic: types
        for topic, types in stack.node.get_topic_names_and_types()
        if stack.node.count_publishers(topic)
    }


def test_every_topic_of_the_rviz_configuration_is_published_in_that_type(watched):
    configuration = yaml.safe_load((CONFIG / "pick_place.rviz").read_text())
    wanted = defaultdict(list)
    for display in configuration["Visualization Manager"]["Displays"]:
        for key in ("Topic", "Description Topic"):
            if key in display:
                kind = CLASSES[display["Class"].rpartition("/")[2]]
                wanted[display[key]["Value"]].append((kind, display[key]))
    assert len(wanted) >= 5
    # The simulated arm has no sensor of forces.
    del wanted["/vjepa2/external_wrench"]
    watched.wait_until(lambda: set(wanted) <= set(offered(watched)))
    types = offered(watched)
    for topic, entries in wanted.items():
        for kind, profile in entries:
            assert types[topic] == [kind]
            for info in watched.node.get_publishers_info_by_topic(topic):
                reliable = info.qos_profile.reliability.name == "RELIABLE"
                latched = info.qos_profile.durability.name == "TRANSIENT_LOCAL"
                assert reliable or profile["Reliability Policy"] == "Best Effort", topic
                assert latched or profile["Durability Policy"] == "Volatile", topic


def test_every_topic_of_the_foxglove_layout_is_published(watched):
    text = (CONFIG / "foxglove.json").read_text()
    layout = json.loads(text)
    topics = {part.split('"')[0] for part in text.split('"/vjepa2/')[1:]}
    names = {f"/vjepa2/{topic.split('.')[0]}" for topic in topics}
    assert len(names) >= 5 and layout["layout"]
    watched.wait_until(lambda: names <= set(offered(watched)))


def test_nothing_is_made_that_nobody_listens_to(watched):
    """A topic that is not subscribed to is not computed, and its inputs are not subscribed to."""
    others = [
        info.node_name for info in watched.node.get_subscriptions_info_by_topic("/vjepa2/latent")
    ]
    if "visualization/difference" not in listen.topics:
        assert "visualizer_node" not in others


def test_the_end_of_the_visualizer_ends_nothing(watched, visualizer, pursuing):
    visualizer.processes["visualizer_node"].popen.kill()
    visualizer.check()
    mark = watched.mark("status")
    first = watched.wait("status", lambda s: s.goal_id == pursuing, after=mark)
    watched.wait("status", lambda s: s.goal_id == pursuing and s.step > first.step, after=mark)
