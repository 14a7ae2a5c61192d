# SPDX-License-Identifier: Apache-2.0
"""The three-dimensional view: the arm, the table, and the markers that the visualizer publishes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh
import viser
from sensor_msgs.msg import JointState
from visualization_msgs.msg import Marker, MarkerArray

import vjepa2_ros.simulation
from vjepa2_ros.robot.urdf import link_transforms, prefix_of

MESHES = Path(vjepa2_ros.simulation.__file__).parent / "assets" / "meshes"
_COLOURS = {"hand": (70, 76, 84), "leftfinger": (90, 217, 51), "rightfinger": (217, 51, 217)}
_ARM = (235, 237, 240)
_VIEW = (1.25, -0.75, 0.85), (0.45, 0.0, 0.15)  # from where, at what [m]


class World:
    """What is shown in the scene of a page.

    Args:
        server: of the page.
    """

    def __init__(self, server: viser.ViserServer) -> None:
        self._scene = server.scene
        self._prefix = ""
        self._links: dict[str, viser.FrameHandle] = {}
        self._shown: dict[str, viser.SceneNodeHandle] = {}
        self._scene.set_up_direction("+z")
        self._scene.add_grid("/table", 1.4, 1.1, position=(0.42, 0.0, -0.001), cell_size=0.1,
                             section_size=0.5)  # fmt: skip
        self._scene.add_frame("/base", axes_length=0.1, axes_radius=0.004)
        server.initial_camera.position, server.initial_camera.look_at = _VIEW

    def show_arm(self, joints: JointState, opening: float) -> None:
        """Put the arm into its joint angles.

        Args:
            joints: of a Franka arm; other robots are not drawn.
            opening: distance of the fingers [m].
        """
        prefix = prefix_of(joints.name)
        angles = np.array(joints.position)
        if prefix is None or angles.shape != (7,) or not np.isfinite([*angles, opening]).all():
            return
        if not self._links:
            self._add_arm(prefix)
        if prefix != self._prefix:
            return  # another arm: the first one stays
        for link in link_transforms(prefix, "base", angles, opening):
            frame = self._links[link.child]
            frame.position = link.position
            frame.wxyz = link.rotation.as_quat(scalar_first=True)

    def _add_arm(self, prefix: str) -> None:
        self._prefix = prefix
        paths = {"base": "/arm"}
        for link in link_transforms(prefix, "base", np.zeros(7), 0.0):
            paths[link.child] = path = f"{paths[link.parent]}/{link.child}"
            self._links[link.child] = self._scene.add_frame(path, show_axes=False)
            name = link.child.removeprefix(prefix)
            file = MESHES / f"{'finger' if name.endswith('finger') else name}.stl"
            if file.exists():
                mesh = trimesh.load_mesh(file)
                colour = _COLOURS.get(name, _ARM)
                self._scene.add_mesh_simple(
                    f"{path}/mesh", mesh.vertices, mesh.faces, color=colour, flat_shading=True
                )

    def show_markers(self, message: MarkerArray) -> None:
        """Show line lists and sphere lists; those that are not sent any more go."""
        seen = set()
        for marker in message.markers:
            points = np.array([[p.x, p.y, p.z] for p in marker.points], np.float32)
            colours = np.array([[c.r, c.g, c.b, c.a] for c in marker.colors], np.float32)
            if marker.action != Marker.ADD or not len(points) or len(points) != len(colours):
                continue
            # The scene has no transparent lines: on its dark ground they fade to black.
            shades = np.round(255 * colours[:, :3] * colours[:, 3:]).astype(np.uint8)
            name = f"/markers/{marker.ns}"
            if marker.type == Marker.LINE_LIST and len(points) % 2 == 0:
                self._shown[name] = self._scene.add_line_segments(
                    name,
                    points.reshape(-1, 2, 3),
                    shades.reshape(-1, 2, 3),
                    thickness=2.0 * marker.scale.x,
                )
            elif marker.type == Marker.SPHERE_LIST:
                self._shown[name] = self._scene.add_point_cloud(
                    name, points, shades, point_size=marker.scale.x, point_shape="circle",
                    precision="float32",
                )  # fmt: skip
            else:
                continue
            seen.add(name)
        for name in self._shown.keys() - seen:
            self._shown.pop(name).remove()
