# SPDX-License-Identifier: Apache-2.0
"""What the demo says when something that a goal needs does not arrive."""

import threading

import numpy as np
import pytest

from vjepa2_ros.demo.run import DemoError, wait_for_inputs
from vjepa2_ros.evaluation.record import Record
from vjepa2_ros.tasks.truth import Truth

STATE = [(1.0, np.zeros(3))]
TRUTHS = [
    Truth(1.0, np.zeros(3), 0.0, 0.0, np.zeros((2, 3)), np.zeros(2), np.zeros(2, bool)),
]
IMAGE = "no image reached the planner"


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (Record(truths=TRUTHS, planner_ready=True), "no state of the robot arrived"),
        (Record(truths=TRUTHS, positions=STATE), IMAGE),
        (Record(truths=TRUTHS), f"{IMAGE} and no state of the robot arrived"),
        (Record(positions=STATE, planner_ready=True), "no truth of the simulation arrived"),
    ],
)
def test_what_is_missing_is_named(group, record, said):
    with pytest.raises(DemoError, match=f"^{said} within 0 s: is other work .* See nodes.log"):
        wait_for_inputs(record, 0.0, threading.Event(), group)


def test_nothing_is_waited_for_when_all_is_there(group):
    record = Record(positions=STATE, truths=TRUTHS, planner_ready=True)
    wait_for_inputs(record, 0.0, threading.Event(), group)
