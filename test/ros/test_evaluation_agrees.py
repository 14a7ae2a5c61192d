# SPDX-License-Identifier: Apache-2.0
"""Evaluation and nodes on the same scene: one loop, in simulated and in real time."""

import cv2
import pytest
from conftest import make_probe, wait_for_latents
from sensor_msgs.msg import CompressedImage

from vjepa2_ros.evaluation.reach import ReachEpisode, run_episode, scene_seeds
from vjepa2_ros.evaluation.simulated_stack import encode_as_sent
from vjepa2_ros.execution.goal_status import TERMINAL, GoalState
from vjepa2_ros.planning.planners import make_planner
from vjepa2_ros.planning.receding_horizon import make_loop
from vjepa2_ros.ros.conversions import pose_arrays
from vjepa2_ros.settings.files import resolve
from vjepa2_ros.settings.stack import managed_nodes
from vjepa2_ros.share import share_directory
from vjepa2_ros.simulation.simulator import Simulator
from vjepa2_ros.srv import SetGoal
from vjepa2_ros.stack.process_group import ProcessGroup
from vjepa2_ros.stack.start import start_stack
from vjepa2_ros.world_model.checkpoint import open_world_model

pytestmark = pytest.mark.skipif(
    not (share_directory() / "models" / "reach" / "config.json").is_file(),
    reason="NO SHIPPED MODEL: evaluation and nodes are not compared",
)


def evaluated(episode, simulator):
    """Steps and final distance [m] of the episode in process."""
    settings = resolve().settings
    model = open_world_model(settings.planner.model)
    planner = make_planner(settings.planner.search)
    loop = make_loop(
        settings.planner,
        planner,
        model,
        encode_as_sent(model, episode.goal_image, settings.encoder)[None],
    )
    result = run_episode(simulator, episode, loop, settings)
    assert result.end == GoalState.REACHED
    return result.steps, result.distances[-1]


def executed_by_the_nodes(episode):
    """The same of the same episode in the stack."""
    namespace = f"/scene{episode.seed}"
    done, data = cv2.imencode(".png", cv2.cvtColor(episode.goal_image, cv2.COLOR_RGB2BGR))
    assert done
    image = CompressedImage(format="png", data=data.tobytes())
    probe = make_probe(namespace)
    try:
        with ProcessGroup() as group:
            changes = {"simulator_node": {"seed": episode.seed}}
            start_stack(group, managed_nodes("simulation"), changes, namespace)
            wait_for_latents(probe)
            answer = probe.call(SetGoal, "set_goal", SetGoal.Request(images=[image]))
            assert answer.accepted, answer.message
            end = probe.wait(
                "status", lambda s: s.goal_id == answer.goal_id and s.state in TERMINAL, after=0
            )
            assert end.state == GoalState.REACHED, end
            position, _ = pose_arrays(probe.wait("robot_state").pose)
    finally:
        probe.close()
    return end.step, episode.distance(position)


def test_an_episode_ends_alike_in_process_and_in_the_nodes():
    simulator = Simulator()
    episode = ReachEpisode.sample(scene_seeds(1, 2)[1], simulator)
    steps, distance = evaluated(episode, simulator)
    steps_of_nodes, distance_of_nodes = executed_by_the_nodes(episode)
    print(f"steps {steps}, {steps_of_nodes}; end {distance:.4f} m, {distance_of_nodes:.4f} m")
    assert max(distance, distance_of_nodes) < 0.04
    assert abs(distance - distance_of_nodes) < 0.01
    assert abs(steps - steps_of_nodes) <= 1
