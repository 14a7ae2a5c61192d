# SPDX-License-Identifier: Apache-2.0
"""When the simulator publishes an image, and what it says where it cannot render."""

import pytest
from probe import Probe

from vjepa2_ros.nodes.simulator_node import SimulatorNode, falls_on
from vjepa2_ros.settings.declaration import parameters_of
from vjepa2_ros.simulation.simulator import SimulatorConfig
from vjepa2_ros.stack.process_group import ProcessGroup

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
