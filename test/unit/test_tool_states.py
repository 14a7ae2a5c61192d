# SPDX-License-Identifier: Apache-2.0
"""States of the robot that come with goal images, from messages or bags."""

from types import SimpleNamespace

import numpy as np
import pytest

from vjepa2_ros.recording.messages import tool_states


def message(x=0.5, turn=1.0, closedness=0.3):
    position = SimpleNamespace(x=x, y=0.0, z=0.2)
    orientation = SimpleNamespace(x=turn, y=0.0, z=0.0, w=0.0)
    pose = SimpleNamespace(position=position, orientation=orientation)
    return SimpleNamespace(pose=pose, gripper_closedness=closedness)


def test_they_are_states_as_the_predictor_takes_them():
    states = tool_states([message(), message(x=0.6)])
    np.testing.assert_allclose(states[:, [0, 3, 6]], [[0.5, np.pi, 0.3], [0.6, np.pi, 0.3]])
    assert tool_states([]) is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"x": float("nan")}, "finite"),
        ({"x": 1000.0}, "1000 m from the base"),
        ({"x": 1e300}, "from the base"),
        ({"turn": 0.0}, "zero quaternion"),
        ({"turn": 1e200}, "length"),
        ({"closedness": 55.0}, "0 .open. to 1 .closed., not 55"),
        ({"closedness": float("nan")}, "finite"),
    ],
)
def test_one_that_cannot_be_is_named(wrong, said):
    with pytest.raises(ValueError, match=f"state 2 of 2.*{said}"):
        tool_states([message(), message(**wrong)])
