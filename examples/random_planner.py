# SPDX-License-Identifier: Apache-2.0
"""A planner: the best of random action sequences.

Compare it with the planners of the package:

    PYTHONPATH=examples .venv/bin/vjepa2-ros bench planning --no-closed-loop --decisions 3 \
        --budgets 64 --planners latent_quadratic random_planner:RandomPlanner

The reference, the paper's search with 8,000 evaluations, is always computed as well: 13 s a
decision on an idle core, up to 50 s on a busy one. The default of 100 decisions takes about half an
hour on two cores.

Plan the demo's steps with it:

    PYTHONPATH=examples .venv/bin/vjepa2-ros demo --config examples/random_planner.yaml
"""

from __future__ import annotations

import torch
from torch import Tensor

from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.planning.planner import Objective, Plan
from vjepa2_ros.planning.search import Search


class RandomPlanner:
    """Evaluates points drawn uniformly from the action space and returns the best.

    Args:
        evaluations: number of action sequences evaluated for one plan.
    """

    def __init__(self, evaluations: int) -> None:
        self.evaluations = evaluations

    def plan(
        self,
        objective: Objective,
        space: ActionSpace,
        generator: torch.Generator,
        previous: Tensor | None = None,
    ) -> Plan:
        """Search the action space.

        Args:
            objective: energies [S] of action sequences [S, H, 7].
            space: bounds of the sequences; its free axes form the cube -1 … 1.
            generator: the only source of randomness.
            previous: the rest of the last plan [H, 7], which this planner does not use.
        """
        search = Search(objective, space, generator, previous)
        unit = torch.rand(self.evaluations, space.dimensions, generator=generator)
        search.evaluate((2 * unit - 1).numpy())
        return search.plan()
