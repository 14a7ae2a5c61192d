# SPDX-License-Identifier: Apache-2.0
"""Description of the Franka arm for viewers, as URDF, and the transforms of its links.

Both come from the kinematics that commands are checked with. Meshes are those of the simulation;
there are no masses and no collision geometry: it is for looking at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np
from scipy.spatial.transform import Rotation

from vjepa2_ros.robot.kinematics import (
    FLANGE_LENGTH,
    FRANKA_HAND_ANGLE,
    FRANKA_HAND_LENGTH,
    JOINT_ORIGINS,
    FrankaKinematics,
    JointLimits,
)

MESHES = "package://vjepa2_ros/meshes"
"""Where viewers of ROS find the meshes."""
_FINGER_HEIGHT = 0.0584
"""From the flange to the frames of the fingers [m]."""
_COLOURS = {"arm": (0.92, 0.93, 0.94), "hand": (0.28, 0.30, 0.33), "finger": (0.35, 0.85, 0.2)}


@dataclass(frozen=True)
class LinkTransform:
    """Where a link is.

    Attributes:
        parent: frame that it is given in.
        child: frame of the link.
        position: [3] in metres.
        rotation: of the link.
    """

    parent: str
    child: str
    position: np.ndarray
    rotation: Rotation


def prefix_of(joint_names: Sequence[str]) -> str | None:
    """What stands before the names of the links, such as "fr3_"; None for no Franka arm."""
    if len(joint_names) != 7 or not joint_names[0].endswith("joint1"):
        return None
    prefix = joint_names[0].removesuffix("joint1")
    expected = [f"{prefix}joint{number}" for number in range(1, 8)]
    return prefix if list(joint_names) == expected else None


def franka_urdf(
    prefix: str, base_frame: str, limits: JointLimits, stroke: float, meshes: str = MESHES
) -> str:
    """URDF of the arm with its hand.

    Args:
        prefix: before the names of links and joints, such as "fr3_".
        base_frame: frame of all poses, which the first link is fixed to.
        limits: of the joints.
        stroke: opening of the gripper at closedness 0 [m].
        meshes: folder or URL of the meshes.
    """
    robot = Element("robot", name=f"{prefix}arm")
    for name, colour in _COLOURS.items():
        material = SubElement(robot, "material", name=name)
        SubElement(material, "color", rgba=_text((*colour, 1.0)))
    SubElement(robot, "link", name=base_frame)
    _link(robot, f"{prefix}link0", f"{meshes}/link0.stl", "arm")
    _joint(robot, f"{prefix}base_joint", "fixed", base_frame, f"{prefix}link0")
    for number, (position, roll) in enumerate(JOINT_ORIGINS, start=1):
        _link(robot, f"{prefix}link{number}", f"{meshes}/link{number}.stl", "arm")
        joint = _joint(
            robot,
            f"{prefix}joint{number}",
            "revolute",
            f"{prefix}link{number - 1}",
            f"{prefix}link{number}",
            position,
            (roll, 0.0, 0.0),
        )
        SubElement(joint, "axis", xyz="0 0 1")
        lower, upper = limits.lower[number - 1], limits.upper[number - 1]
        SubElement(joint, "limit", _limits(float(lower), float(upper)))
    hand, flange = f"{prefix}hand", f"{prefix}link8"
    SubElement(robot, "link", name=flange)
    above = (0.0, 0.0, FLANGE_LENGTH)
    _joint(robot, f"{prefix}joint8", "fixed", f"{prefix}link7", flange, above)
    _link(robot, hand, f"{meshes}/hand.stl", "hand")
    turned = (0.0, 0.0, FRANKA_HAND_ANGLE)
    _joint(robot, f"{prefix}hand_joint", "fixed", flange, hand, rpy=turned)
    SubElement(robot, "link", name=f"{prefix}hand_tcp")
    tip = (0.0, 0.0, FRANKA_HAND_LENGTH)
    _joint(robot, f"{prefix}hand_tcp_joint", "fixed", hand, f"{prefix}hand_tcp", tip)
    for number, side in enumerate(("left", "right"), start=1):
        finger = f"{prefix}{side}finger"
        _link(robot, finger, f"{meshes}/finger.stl", "finger")
        joint = _joint(
            robot,
            f"{prefix}finger_joint{number}",
            "prismatic",
            hand,
            finger,
            (0.0, 0.0, _FINGER_HEIGHT),
            (0.0, 0.0, math.pi * (number - 1)),
        )
        SubElement(joint, "axis", xyz="0 1 0")
        SubElement(joint, "limit", _limits(0.0, stroke / 2))
    ElementTree.indent(robot)
    return ElementTree.tostring(robot, encoding="unicode", xml_declaration=True)


def link_transforms(
    prefix: str, base_frame: str, joints: np.ndarray, opening: float
) -> list[LinkTransform]:
    """Transforms of all links of `franka_urdf`, each in the link before.

    Args:
        prefix: before the names.
        base_frame: of all poses.
        joints: angles [7] in radians.
        opening: distance of the fingers [m].
    """
    frames = np.concatenate([np.eye(4)[None], FrankaKinematics().frames(joints)[:7]])
    steps = np.linalg.inv(frames[:-1]) @ frames[1:]
    still, hand = Rotation.identity(), f"{prefix}hand"
    links = [LinkTransform(base_frame, f"{prefix}link0", np.zeros(3), still)]
    links += [
        LinkTransform(
            f"{prefix}link{number}",
            f"{prefix}link{number + 1}",
            step[:3, 3],
            Rotation.from_matrix(step[:3, :3]),
        )
        for number, step in enumerate(steps)
    ]
    flange = np.array([0.0, 0.0, FLANGE_LENGTH])
    tip = np.array([0.0, 0.0, FRANKA_HAND_LENGTH])
    turned = Rotation.from_euler("z", FRANKA_HAND_ANGLE)
    links += [
        LinkTransform(f"{prefix}link7", f"{prefix}link8", flange, still),
        LinkTransform(f"{prefix}link8", hand, np.zeros(3), turned),
        LinkTransform(hand, f"{prefix}hand_tcp", tip, still),
    ]
    for side, sign in (("left", 1.0), ("right", -1.0)):
        place = np.array([0.0, sign * opening / 2, _FINGER_HEIGHT])
        rotation = Rotation.from_euler("z", 0.0 if sign > 0 else math.pi)
        links.append(LinkTransform(hand, f"{prefix}{side}finger", place, rotation))
    return links


def _link(robot: Element, name: str, mesh: str, material: str) -> None:
    visual = SubElement(SubElement(robot, "link", name=name), "visual")
    SubElement(SubElement(visual, "geometry"), "mesh", filename=mesh)
    SubElement(visual, "material", name=material)


def _joint(
    robot: Element,
    name: str,
    kind: str,
    parent: str,
    child: str,
    xyz: Sequence[float] = (0.0, 0.0, 0.0),
    rpy: Sequence[float] = (0.0, 0.0, 0.0),
) -> Element:
    joint = SubElement(robot, "joint", name=name, type=kind)
    SubElement(joint, "origin", xyz=_text(xyz), rpy=_text(rpy))
    SubElement(joint, "parent", link=parent)
    SubElement(joint, "child", link=child)
    return joint


def _limits(lower: float, upper: float) -> dict[str, str]:
    return {"lower": repr(lower), "upper": repr(upper), "effort": "87", "velocity": "2.6"}


def _text(numbers: Sequence[float]) -> str:
    return " ".join(repr(float(number)) for number in numbers)
