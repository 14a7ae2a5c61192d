# SPDX-License-Identifier: Apache-2.0
"""Real nodes in processes of their own over real DDS, on a domain of this test session."""

import os

# Before rclpy is imported anywhere: children inherit it.
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest  # noqa: E402

rclpy = pytest.importorskip("rclpy", reason="ROS 2 IS ABSENT: no node is tested")
from vjepa2_ros.ros.compatibility import own_build  # noqa: E402
from vjepa2_ros.stack.reach import DISCOVERY_RANGE, on_this_machine  # noqa: E402

os.environ.pop(DISCOVERY_RANGE, None)
os.environ.update(on_this_machine(own_build()["rmw"], own_build()["ros_distro"]))

from probe import DEADLINE  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from small_model import small_world_model  # noqa: E402
from stack_probe import make_probe  # noqa: E402

from vjepa2_ros.stack.process_group import ProcessGroup  # noqa: E402
from vjepa2_ros.world_model.checkpoint import save_world_model  # noqa: E402


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Folder of a random model of 64 pixels: right in form, wrong in everything else."""
    folder = tmp_path_factory.mktemp("model")
    save_world_model(small_world_model(), folder, card={})
    return folder


@pytest.fixture
def group():
    """Processes of one test."""
    with ProcessGroup() as group:
        yield group


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
