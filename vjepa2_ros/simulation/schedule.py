# SPDX-License-Identifier: Apache-2.0
"""Which control periods something happens on that is rarer than they are."""

import math


def falls_on(step: int, share: float) -> bool:
    """Whether something that happens on a share of all steps happens on this one.

    It is spread evenly, and without drift where the share is not 1/n.

    Args:
        step: number of the step, from 0.
        share: 0 to 1.
    """
    # A rounding error must not move it by a step.
    return math.ceil((step + 1) * share - 1e-9) > math.ceil(step * share - 1e-9)
