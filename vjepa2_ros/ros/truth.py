# SPDX-License-Identifier: Apache-2.0
"""The truth of the simulated cell as a message, and back.

Apart from the other conversions, since it imports MuJoCo, which fails where there is no OpenGL.
"""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import Point
from std_msgs.msg import Header

from vjepa2_ros.msg import SimulatorTruth
from vjepa2_ros.ros.conversions import MessageError, seconds, stamp
from vjepa2_ros.simulation.simulator import OBJECTS
from vjepa2_ros.tasks.truth import Truth


def truth_message(truth: Truth, time: float, frame_id: str) -> SimulatorTruth:
    """Message of the truth.

    Args:
        truth: its `time` is not sent.
        time: at which it was read [s].
        frame_id: the robot's base frame.
    """
    return SimulatorTruth(
        header=Header(stamp=stamp(time), frame_id=frame_id),
        simulated_time=float(truth.simulated_time),
        hand=_point(truth.hand),
        gripper_closedness=float(truth.closedness),
        commanded_closedness=float(truth.commanded_closedness),
        objects=list(OBJECTS),
        positions=[_point(position) for position in truth.objects],
        tilts=truth.tilts.tolist(),
        held=truth.held.tolist(),
    )


def truth_of(message: SimulatorTruth) -> Truth:
    """The truth of a message; its time is the stamp's.

    Raises:
        MessageError: it is about other objects, or its arrays have different lengths.
    """
    count = len(OBJECTS)
    lengths = {len(message.positions), len(message.tilts), len(message.held)}
    if tuple(message.objects) != OBJECTS or lengths != {count}:
        raise MessageError(
            f"the truth is about {', '.join(message.objects) or 'no object'} with arrays of "
            f"{', '.join(map(str, sorted(lengths)))} entries; here the objects are "
            f"{', '.join(OBJECTS)}"
        )
    return Truth(
        time=seconds(message.header.stamp),
        hand=_array(message.hand),
        closedness=message.gripper_closedness,
        commanded_closedness=message.commanded_closedness,
        objects=np.stack([_array(position) for position in message.positions]),
        tilts=np.array(message.tilts),
        held=np.array(message.held, bool),
        simulated_time=message.simulated_time,
    )


def _point(position: np.ndarray) -> Point:
    x, y, z = position.tolist()
    return Point(x=x, y=y, z=z)


def _array(point: Point) -> np.ndarray:
    return np.array([point.x, point.y, point.z])
