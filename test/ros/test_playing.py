# SPDX-License-Identifier: Apache-2.0
"""A bag is played for viewers only where no robot could follow it."""

from pathlib import Path

import pytest
import rclpy
from rclpy.context import Context

from vjepa2_ros.msg import Command
from vjepa2_ros.ros.qos import COMMAND
from vjepa2_ros.settings.declaration import SettingsError
from vjepa2_ros.stack.playing import ARGUMENTS, plan_playback, robot_that_listens

BAG = Path(__file__).parents[1] / "bags" / "pick_and_place"
DEFAULTS = {name: default for name, default, _ in ARGUMENTS}


@pytest.fixture
def another():
    """A node of somebody else in this domain."""
    contexts, nodes = [], []

    def start(name, namespace):
        context = Context()
        rclpy.init(context=context)
        contexts.append(context)
        nodes.append(rclpy.create_node(name, namespace=namespace, context=context))
        return nodes[-1]

    yield start
    for context in contexts:
        context.try_shutdown()


def test_without_a_robot_what_viewers_need_is_played_and_no_command():
    playback = plan_playback({**DEFAULTS, "bag": str(BAG), "rate": "2"}, listening=0.5)
    assert playback.command[:4] == ("ros2", "bag", "play", str(BAG))
    played = set(playback.command[playback.command.index("--topics") + 1 :])
    assert "/vjepa2/camera/image_raw" in played and "/vjepa2/robot_state" in played
    # What moves a robot, and nothing of other drivers.
    assert all(topic.startswith("/vjepa2/") for topic in played)
    assert not played & {"/vjepa2/command", "/vjepa2/simulator/target"}
    assert playback.namespace == "/vjepa2" and playback.rviz


def test_a_controller_anywhere_in_the_domain_keeps_it_from_starting(another):
    another("controller_node", "/elsewhere")
    with pytest.raises(SettingsError, match="/elsewhere/controller_node listens"):
        plan_playback({**DEFAULTS, "bag": str(BAG)}, listening=20.0)


def test_any_subscriber_to_the_commands_keeps_it_from_starting(another):
    node = another("my_driver", "/vjepa2")
    node.create_subscription(Command, "command", lambda _: None, COMMAND)
    assert robot_that_listens("/vjepa2", 20.0) == "/vjepa2/my_driver"


@pytest.mark.parametrize(
    "arguments, text",
    [
        ({}, "bag:= is missing"),
        ({"bag": "/no/such"}, "there is no bag"),
        ({"bag": str(BAG), "rate": "fast"}, "fast"),
        ({"bag": str(BAG), "rate": "0"}, "not from 0.01 to 100"),
    ],
)
def test_what_cannot_be_played_is_refused(arguments, text):
    with pytest.raises(SettingsError, match=text):
        plan_playback({**DEFAULTS, **arguments}, listening=0.1)
