# SPDX-License-Identifier: Apache-2.0
"""Shapes of the scene as markers, transforms as messages, plans as what is shown of them.

Without torch: a viewer needs no world model.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from geometry_msgs.msg import Point, TransformStamped
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from vjepa2_ros.msg import Plan
from vjepa2_ros.robot.urdf import LinkTransform
from vjepa2_ros.ros.conversions import MessageError
from vjepa2_ros.visualization.scene import PlannedStep, Segments, Shape

MOST_CANDIDATES = 1000
"""Most candidates in a plan."""
_MOST_NUMBERS = 3 * 15 * MOST_CANDIDATES


def marker_array(shapes: Iterable[Shape], header: Header) -> MarkerArray:
    """Markers of shapes, each in a namespace of its name; one without points is deleted."""
    return MarkerArray(markers=[_marker(shape, header) for shape in shapes])


def _marker(shape: Shape, header: Header) -> Marker:
    lines = isinstance(shape, Segments)
    points = (shape.ends if lines else shape.points).reshape(-1, 3)
    marker = Marker(header=header, ns=shape.name, id=0)
    if not len(points):
        marker.action = Marker.DELETE
        return marker
    marker.action = Marker.ADD
    marker.type = Marker.LINE_LIST if lines else Marker.SPHERE_LIST
    size = shape.width if lines else shape.diameter
    marker.scale.x = size
    if not lines:
        marker.scale.y = marker.scale.z = size
    marker.points = [Point(x=x, y=y, z=z) for x, y, z in points.tolist()]
    # A colour for each point; a line has two.
    colours = np.repeat(shape.colours, 2, axis=0) if lines else shape.colours
    marker.colors = [ColorRGBA(r=r, g=g, b=b, a=a) for r, g, b, a in colours.tolist()]
    return marker


def transform_message(link: LinkTransform, header: Header) -> TransformStamped:
    """Message of where a frame is.

    Args:
        link: the transform.
        header: its stamp; the frame is the link's parent.
    """
    message = TransformStamped(header=Header(stamp=header.stamp, frame_id=link.parent))
    message.child_frame_id = link.child
    translation, rotation = message.transform.translation, message.transform.rotation
    translation.x, translation.y, translation.z = map(float, link.position)
    rotation.x, rotation.y, rotation.z, rotation.w = map(float, link.rotation.as_quat())
    return message


def planned_step(message: Plan) -> PlannedStep:
    """What is shown of a plan.

    Raises:
        MessageError: its arrays do not fit each other, are too large, or are not finite.
    """
    horizon, count = message.horizon, len(message.energies)
    lengths = len(message.path), len(message.positions)
    if horizon < 1 or lengths != (3 * horizon, 3 * horizon * count) or lengths[1] > _MOST_NUMBERS:
        raise MessageError(
            f"a plan of {horizon} actions with {count} candidates has {lengths[0]} and "
            f"{lengths[1]} numbers"
        )
    start = np.array([message.start.x, message.start.y, message.start.z])
    path, positions, energies = (
        np.array(numbers, np.float64)
        for numbers in (message.path, message.positions, message.energies)
    )
    if not all(np.isfinite(numbers).all() for numbers in (start, path, positions, energies)):
        raise MessageError("a plan holds numbers that are not finite")
    return PlannedStep(
        start, path.reshape(horizon, 3), positions.reshape(count, horizon, 3), energies
    )
