# SPDX-License-Identifier: Apache-2.0
"""A probe that listens to the topics of a stack."""

from diagnostic_msgs.msg import DiagnosticArray
from probe import Probe
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from vjepa2_ros.msg import (
    Command,
    Goal,
    Latent,
    PlanningStatus,
    RobotState,
    SimulatorTarget,
    SimulatorTruth,
)
from vjepa2_ros.ros.qos import COMMAND, LATCHED, LATEST, STREAM, TARGET

TOPICS = (
    (Image, "camera/image_raw", LATEST),
    (CameraInfo, "camera/camera_info", LATEST),
    (Latent, "latent", LATEST),
    (RobotState, "robot_state", STREAM),
    (Command, "command", COMMAND),
    (PlanningStatus, "status", LATCHED),
    (Goal, "goal", LATCHED),
    (CompressedImage, "goal_image/compressed", LATCHED),
    (SimulatorTarget, "simulator/target", TARGET),
    (SimulatorTruth, "simulator/truth", STREAM),
    (DiagnosticArray, "/diagnostics", 50),
)


def make_probe(namespace):
    probe = Probe(namespace)
    for message_type, topic, qos in TOPICS:
        probe.listen(message_type, topic, qos)
    return probe


def wait_for_latents(probe):
    """Wait for the word of the planner in the probe's namespace that it has got a latent.

    A goal set before that is refused.
    """
    planner = probe.node.get_namespace() + "/planner_node"

    def has_latent(message):
        # Other stacks publish on the same topic.
        status = message.status[0]
        return status.name == planner and "latent_age_s" in {e.key for e in status.values}

    probe.wait("/diagnostics", has_latent, after=0)
