# SPDX-License-Identifier: Apache-2.0
"""Real nodes in processes of their own over real DDS, on a domain of this test session."""

import os
import warnings

# Before rclpy is imported anywhere: children inherit it.
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest  # noqa: E402

rclpy = pytest.importorskip("rclpy", reason="ROS 2 IS ABSENT: no node is tested")
from vjepa2_ros.ros.compatibility import own_build  # noqa: E402
from vjepa2_ros.stack.reach import DISCOVERY_RANGE, on_this_machine  # noqa: E402

os.environ.pop(DISCOVERY_RANGE, None)
os.environ.update(on_this_machine(own_build()["rmw"], own_build()["ros_distro"]))

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from probe import DEADLINE, Probe  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image  # noqa: E402
from small_model import small_world_model  # noqa: E402

from vjepa2_ros.msg import (  # noqa: E402
    Command,
    Goal,
    Latent,
    PlanningStatus,
    RobotState,
    SimulatorTarget,
    SimulatorTruth,
)
from vjepa2_ros.ros.qos import COMMAND, LATCHED, LATEST, STREAM, TARGET  # noqa: E402
from vjepa2_ros.settings.stack import managed_nodes  # noqa: E402
from vjepa2_ros.share import share_directory  # noqa: E402
from vjepa2_ros.stack.process_group import ProcessGroup  # noqa: E402
from vjepa2_ros.stack.start import start_stack  # noqa: E402
from vjepa2_ros.world_model.checkpoint import save_world_model  # noqa: E402

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


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Folder of a random model of 64 pixels: right in form, wrong in everything else."""
    folder = tmp_path_factory.mktemp("model")
    save_world_model(small_world_model(), folder, card={})
    return folder


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


@pytest.fixture
def group():
    """Processes of one test."""
    with ProcessGroup() as group:
        yield group


@pytest.fixture(scope="module")  # it takes a whole core for as long as it is there
def stack(tiny_model):
    """The simulated stack, all nodes active, and a probe beside it."""
    shipped = share_directory() / "models" / "tabletop" / "config.json"
    checkpoint = "tabletop" if shipped.is_file() else str(tiny_model)
    if checkpoint != "tabletop":
        warnings.warn("NO SHIPPED MODEL: the nodes are tested with random weights", stacklevel=1)
    model = {"checkpoint": checkpoint}
    changes = {
        "encoder_node": model,
        "planner_node": {**model, "latent_quadratic.evaluations": 16, "patience": 0},
        # Scene 2 starts high above the table, where three steps in any direction meet nothing.
        "simulator_node": {"seed": 2},
        # A busy machine may leave the simulator without its turn for a second, and more while the
        # others load torch; what a stale state does is tested with the controller alone.
        "controller_node": {"max_state_age": 10.0},
    }
    probe = make_probe("/vjepa2")
    try:
        with ProcessGroup() as group:
            start_stack(group, managed_nodes("simulation"), changes)
            wait_for_latents(probe)
            yield probe
    finally:
        probe.close()


@pytest.fixture(scope="session")
def bench():
    """A probe in a namespace where single nodes are tested with the probe as all the others."""
    probe = make_probe("/bench")
    yield probe
    probe.close()


# A node in the test's own process: a module gives it as the fixture `node`.


@pytest.fixture
def context():
    context = Context()
    rclpy.init(context=context)
    yield context
    context.try_shutdown()


@pytest.fixture
def executor(context, node):
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    yield executor
    executor.shutdown()


@pytest.fixture
def spin(node, executor):
    """Spin the node until something is so."""

    def until(condition):
        end = node.steady_now() + DEADLINE
        while not condition():
            assert node.steady_now() < end, "not so before the deadline"
            executor.spin_once(timeout_sec=0.05)

    return until
