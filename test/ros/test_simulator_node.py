# SPDX-License-Identifier: Apache-2.0
"""Where the simulated cell starts, what it publishes when, which targets it takes, and what it says
where it cannot start.
"""

import numpy as np
import pytest
from geometry_msgs.msg import Point, Pose, Quaternion
from probe import Probe
from std_msgs.msg import Header

from vjepa2_ros.msg import RobotState, SimulatorTarget, SimulatorTruth
from vjepa2_ros.nodes.simulator_node import SimulatorNode, falls_on
from vjepa2_ros.ros.qos import STREAM, TARGET
from vjepa2_ros.ros.truth import truth_of
from vjepa2_ros.settings.declaration import parameters_of
from vjepa2_ros.simulation.simulator import Simulator, SimulatorConfig
from vjepa2_ros.stack.process_group import ProcessGroup
from vjepa2_ros.tasks import load_task
from vjepa2_ros.tasks.task import TaskOptions, draw_episode
from vjepa2_ros.tasks.truth import Truth

PERIOD = SimulatorConfig().control_period


def steps_with_an_image(rate, seconds):
    return [step for step in range(round(seconds / PERIOD)) if falls_on(step, rate * PERIOD)]


@pytest.mark.parametrize("rate", [0.1, 7.0, 10.0, 15.0, 24.0, 30.0, 40.0, 49.9, 50.0])
def test_images_keep_their_rate_on_average_also_where_it_does_not_divide_the_steps(rate):
    steps = steps_with_an_image(rate, 100.0)
    assert len(steps) == pytest.approx(100.0 * rate, abs=1) and steps[0] == 0
    gaps = {later - earlier for earlier, later in zip(steps, steps[1:], strict=False)}
    assert max(gaps) - min(gaps) <= 1, "evenly spread"


def test_a_rate_that_divides_the_steps_takes_every_so_many_of_them():
    assert steps_with_an_image(10.0, 2.0) == list(range(0, 100, 5))


def test_the_rate_of_states_is_the_simulations_own_and_no_parameter():
    names = parameters_of(SimulatorNode.SETTINGS)
    assert "state_rate" not in names and "image_rate" in names


def test_a_wrong_renderer_is_refused_at_configure_with_one_line():
    probe = Probe("/blind")
    try:
        with ProcessGroup(environment={"MUJOCO_GL": "nonsense"}) as group:
            node = group.start_node("simulator_node", namespace="/blind")
            assert not probe.change("simulator_node", "configure")
            group.wait_for_line("simulator_node", "MUJOCO_GL=nonsense", 10.0)
            assert not any("Traceback" in line for line in node.lines)
    finally:
        probe.close()


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"task": "juggle"}, "unknown task 'juggle': use grasp, pick_and_place, "),
        ({"task": "nowhere:TASK"}, "task 'nowhere:TASK' cannot be used"),
        ({"task": "grasp"}, "the task needs an object: one of cup, box"),
        ({"object": "box"}, "the task has no object, so 'box'"),
    ],
    ids=str,
)
def test_a_task_that_cannot_be_used_is_refused_at_configure_with_the_choices(parameters, said):
    probe = Probe("/wrong")
    try:
        with ProcessGroup() as group:
            node = group.start_node("simulator_node", parameters, namespace="/wrong")
            assert not probe.change("simulator_node", "configure")
            group.wait_for_line("simulator_node", said, 10.0)
            assert not any("Traceback" in line for line in node.lines)
    finally:
        probe.close()


@pytest.mark.parametrize(
    ("task", "thing"),
    [("reach_with_object", "box"), ("vjepa2_ros.tasks.library.pick_and_place:TASK", "cup")],
)
def test_the_cell_starts_where_the_episode_of_the_seed_starts_and_says_what_is_true(task, thing):
    simulator = Simulator()
    draw_episode(load_task(task), simulator, 3, TaskOptions(thing))
    expected = Truth.of(simulator)
    probe = Probe("/start")
    probe.listen(SimulatorTruth, "simulator/truth", STREAM)
    try:
        with ProcessGroup() as group:
            parameters = {"task": task, "object": thing, "seed": 3}
            group.start_node("simulator_node", parameters, namespace="/start")
            assert probe.change("simulator_node", "configure")
            assert probe.change("simulator_node", "activate")
            message = probe.wait("simulator/truth", after=0)
            assert message.header.frame_id == "base"
            truth = truth_of(message)
            assert truth.time == pytest.approx(probe.now(), abs=60.0)
            np.testing.assert_allclose(truth.hand, expected.hand, atol=5e-3)
            np.testing.assert_allclose(truth.objects, expected.objects, atol=5e-3)
            np.testing.assert_allclose(truth.tilts, expected.tilts, atol=0.05)
            assert truth.commanded_closedness == expected.commanded_closedness
            np.testing.assert_array_equal(truth.held, expected.held)
            assert truth.held.tolist() == [False, task == "reach_with_object"]
    finally:
        probe.close()


def target(x=0.5, w=0.0, frame="base", closedness=0.0):
    pose = Pose(position=Point(x=x, y=0.0, z=0.3), orientation=Quaternion(x=1.0, w=w))
    return SimulatorTarget(
        header=Header(frame_id=frame),
        mode=SimulatorTarget.MOVE,
        pose=pose,
        gripper_closedness=closedness,
    )


REFUSED = {
    "a position that is not finite": target(x=float("nan")),
    "an orientation that is not finite": target(w=float("inf")),
    "a gripper that is not finite": target(closedness=float("nan")),
    "a quaternion that is not of unit length": target(w=1.0),
    "another frame": target(frame="camera"),
}


@pytest.fixture(scope="module")
def simulator():
    probe = Probe("/targets")
    probe.listen(RobotState, "simulator/state", STREAM)
    try:
        with ProcessGroup() as group:
            # No driver gives a sign of life here.
            patient = {"driver_timeout": 3600.0}
            node = group.start_node("simulator_node", patient, namespace="/targets")
            assert probe.change("simulator_node", "configure")
            assert probe.change("simulator_node", "activate")
            yield probe, node
    finally:
        probe.close()


@pytest.mark.parametrize("name", REFUSED)
def test_the_simulation_goes_on_after_a_foreign_target_with(name, simulator):
    probe, _ = simulator
    probe.publish("simulator/target", REFUSED[name], TARGET)
    # The depth of the topic is 1: a second target would replace the first before it is taken.
    for _ in range(10):
        probe.wait("simulator/state")
    assert probe.state("simulator_node") == "active"
    good = target(x=0.52 + 0.01 * list(REFUSED).index(name))
    probe.publish("simulator/target", good, TARGET)
    probe.wait(
        "simulator/state",
        lambda state: abs(state.pose.position.x - good.pose.position.x) < 2e-3 and not state.moving,
    )


def test_refused_targets_are_said_once(simulator):
    _, node = simulator
    assert len([line for line in list(node.lines) if "refused a target" in line]) == 1
