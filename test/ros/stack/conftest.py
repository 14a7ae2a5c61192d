# SPDX-License-Identifier: Apache-2.0
"""One simulated stack for all tests of this folder, each of which leaves it idle and at rest."""

import warnings

import pytest
from stack_probe import make_probe, wait_for_latents

from vjepa2_ros.settings.stack import managed_nodes
from vjepa2_ros.share import share_directory
from vjepa2_ros.stack.process_group import ProcessGroup
from vjepa2_ros.stack.start import start_stack


@pytest.fixture(scope="package")  # it takes a whole core for as long as it is there
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
