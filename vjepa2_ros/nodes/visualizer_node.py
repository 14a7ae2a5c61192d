# SPDX-License-Identifier: Apache-2.0
"""What the stack sees, plans and does, for viewers: markers, images, transforms, plain numbers.

Off the control path: nothing waits for this node, its end ends nothing, and what nobody subscribes
to is neither made nor subscribed to. What is shown is described in `visualization/`.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Float64, Header, String
from std_srvs.srv import Trigger
from visualization_msgs.msg import MarkerArray

from vjepa2_ros.msg import Goal, Latent, Plan, PlanningStatus, RobotState
from vjepa2_ros.robot.kinematics import JOINT_LIMITS
from vjepa2_ros.robot.urdf import LinkTransform, franka_urdf, link_transforms, prefix_of
from vjepa2_ros.ros.awaiting_node import Refused
from vjepa2_ros.ros.conversions import (
    cropped,
    image_array,
    image_message,
    latent_array,
    pose_arrays,
    seconds,
    stamp,
)
from vjepa2_ros.ros.image_transport import COMPRESSED_TOPIC, RAW_TOPIC
from vjepa2_ros.ros.managed_node import ManagedNode
from vjepa2_ros.ros.markers import marker_array, planned_step, transform_message
from vjepa2_ros.ros.qos import LATCHED, LATEST, STREAM, TRANSFORMS, VIEW
from vjepa2_ros.ros.runner import run
from vjepa2_ros.settings.transport import COMPRESSED
from vjepa2_ros.settings.visualizer import VisualizerNodeSettings
from vjepa2_ros.srv import EnergyLandscape
from vjepa2_ros.visualization.difference import difference_image, fitted, patch_distances
from vjepa2_ros.visualization.landscape import landscape_image
from vjepa2_ros.visualization.scene import (
    CameraView,
    Shape,
    camera_shape,
    path_shape,
    plan_shapes,
    workspace_shape,
)

NEAR = 0.001
"""Positions of the driven path are farther apart than this [m]."""
LANDSCAPE_TIMEOUT = 30.0
"""Longest wait for the energies of a landscape [s]."""


class VisualizerNode(ManagedNode):
    """Shows the newest of everything at a fixed rate."""

    NAME = "visualizer_node"
    SETTINGS = VisualizerNodeSettings
    STARTS_BY_ITSELF = True

    def configure(self) -> None:
        settings = self.settings
        self._image: Image | CompressedImage | None = None
        self._info: CameraInfo | None = None
        self._latent: Latent | None = None
        self._goal: Goal | None = None
        self._plan: Plan | None = None
        self._described_plan: Plan | None = None
        self._shapes: tuple[Shape, ...] = ()
        self._status: PlanningStatus | None = None
        self._joints: JointState | None = None
        self._trail: deque[np.ndarray] = deque(maxlen=settings.trail)
        self._opening = 0.0
        self._described = ""
        # Of the goal that is pursued: what the difference is scaled by.
        self._scale = 0.0
        self._scaled_for = self._pictured_for = ("", -1)
        self._feeds: dict[str, Any] = {}
        self._markers = self.advertise(MarkerArray, "visualization/markers", VIEW)
        self._difference = self.advertise(Image, "visualization/difference", VIEW)
        self._landscape = self.advertise(Image, "visualization/landscape", LATCHED)
        self._numbers = {
            name: self.advertise(Float64, f"visualization/{name}", VIEW)
            for name in ("energy", "predicted_energy", "surprise")
        }
        self._descriptions = self.advertise(String, "robot_description", LATCHED)
        self._transforms = self._transform_publisher("/tf", TRANSFORMS)
        self._static_transforms = self._transform_publisher("/tf_static", LATCHED)
        self.subscribe(Goal, "goal", self._on_goal, LATCHED)
        self.subscribe(PlanningStatus, "status", self._on_status, LATCHED)
        self.subscribe(RobotState, "robot_state", self._on_robot_state, STREAM)
        self.subscribe(JointState, "joint_states", self._on_joints, STREAM)
        self._energies = self.use_service(EnergyLandscape, "energy_landscape")
        self.serve(Trigger, "visualization/draw_landscape", self._on_draw_landscape)
        self.every(1.0 / settings.rate, self._on_tick)

    def activate(self) -> None:
        header = Header(stamp=stamp(self.now()), frame_id=self.settings.base.base_frame)
        view = self._camera_transform()
        if view is not None and self._static_transforms is not None:
            transforms = [transform_message(view, header)]
            self._static_transforms.publish(_transforms_message(transforms))

    # Inputs ---------------------------------------------------------------------------------

    def _on_goal(self, message: Goal) -> None:
        self._goal = message

    def _on_status(self, message: PlanningStatus) -> None:
        self._status = message
        for name, publisher in self._numbers.items():
            publisher.publish(Float64(data=getattr(message, name)))

    def _on_robot_state(self, message: RobotState) -> None:
        position, _ = pose_arrays(message.pose)
        moved = not self._trail or np.abs(position - self._trail[-1]).max() > NEAR
        if np.isfinite(position).all() and moved:
            self._trail.append(position)
        self._opening = self.settings.gripper_stroke * (1.0 - message.gripper_closedness)

    def _on_joints(self, message: JointState) -> None:
        self._joints = message

    def _follow(self, topic: str, kind: type, attribute: str, wanted: bool) -> None:
        """Be subscribed to a topic while what is made of it is wanted."""
        if wanted and topic not in self._feeds:
            self._feeds[topic] = self.subscribe(
                kind, topic, lambda message: setattr(self, attribute, message), LATEST
            )
        elif not wanted and topic in self._feeds:
            self.unsubscribe(self._feeds.pop(topic))
            setattr(self, attribute, None)

    # Outputs --------------------------------------------------------------------------------

    def _on_tick(self) -> None:
        marks = self._markers.get_subscription_count() > 0
        differs = self._difference.get_subscription_count() > 0
        compressed = self.settings.subscription.image_transport == COMPRESSED
        topic, kind = (COMPRESSED_TOPIC, CompressedImage) if compressed else (RAW_TOPIC, Image)
        self._follow("plan", Plan, "_plan", marks)
        self._follow("camera/camera_info", CameraInfo, "_info", marks)
        self._follow(topic, kind, "_image", differs)
        self._follow("latent", Latent, "_latent", differs)
        # Messages of anybody are shown: one that cannot be keeps nothing else from being shown.
        if marks and self._try("plan", self._plan_shapes):
            self._plan = None
        if marks:
            self._try("markers", self._show_markers)
        if differs:
            self._try("difference", self._show_difference)
        self._try("robot", self._show_robot)

    def _try(self, what: str, show: Callable[[], None]) -> bool:
        """Show something; whether that failed, which is reported."""
        try:
            show()
        except Exception as error:  # noqa: BLE001 - see above
            self._report(f"cannot show the {what}", error)
            return True
        self.health.beat()
        return False

    def _plan_shapes(self) -> None:
        """Describe a new plan; the shapes of the last one stay."""
        if self._plan is not self._described_plan:
            self._described_plan = self._plan
            self._shapes = () if self._plan is None else plan_shapes(planned_step(self._plan))

    def _show_markers(self) -> None:
        settings = self.settings
        lower, upper = (
            np.array(corner) for corner in (settings.workspace.lower, settings.workspace.upper)
        )
        shapes: list[Shape] = [workspace_shape(lower, upper)]
        view = self._camera_view()
        if view is not None:
            shapes.append(camera_shape(view))
        if len(self._trail) > 1:
            shapes.append(path_shape(np.stack(self._trail)))
        shapes += self._shapes
        header = Header(stamp=stamp(self.now()), frame_id=settings.base.base_frame)
        self._markers.publish(marker_array(shapes, header))

    def _show_difference(self) -> None:
        goal, latent, image = self._goal, self._latent, self._image
        if goal is None or latent is None or image is None:
            return
        if not goal.images or len(goal.images) != len(goal.latents):
            return
        of_this_goal = self._status is not None and self._status.goal_id == goal.goal_id
        number = min(self._status.subgoal, len(goal.latents) - 1) if of_this_goal else 0
        wanted = goal.latents[number]
        seen, aim = latent_array(latent), latent_array(wanted)
        if seen.shape != aim.shape or latent.model != wanted.model:
            return
        distances = patch_distances(seen, aim, latent.rows)
        if self._scaled_for != (goal.goal_id, number):
            self._scaled_for, self._scale = (goal.goal_id, number), float(distances.max())
        if self._pictured_for != (goal.goal_id, number):
            picture = image_array(goal.images[number])
            self._picture = fitted(cropped(picture, wanted))
            self._pictured_for = goal.goal_id, number
        shown = difference_image(
            cropped(image_array(image), latent), self._picture, distances, self._scale
        )
        taken = seconds(latent.header.stamp)
        self._difference.publish(image_message(shown, taken, latent.header.frame_id))

    def _show_robot(self) -> None:
        joints = self._joints
        if joints is None or not self.settings.describe_robot:
            return
        prefix = prefix_of(joints.name)
        if prefix is None or len(joints.position) != 7:
            return
        base = self.settings.base.base_frame
        if self._described != prefix:
            self._described = prefix
            limits = JOINT_LIMITS["panda" if prefix.startswith("panda") else "fr3"]
            text = franka_urdf(prefix, base, limits, self.settings.gripper_stroke)
            self._descriptions.publish(String(data=text))
        if self._transforms is not None and self._transforms.get_subscription_count() > 0:
            links = link_transforms(prefix, base, np.array(joints.position), self._opening)
            self._transforms.publish(
                _transforms_message([transform_message(link, joints.header) for link in links])
            )

    async def _on_draw_landscape(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        if not self._energies.service_is_ready():
            raise Refused("planner_node does not answer: bring the stack up first")
        try:
            answer = await self.answer_of(
                self._energies, EnergyLandscape.Request(), LANDSCAPE_TIMEOUT
            )
        except TimeoutError:
            raise Refused(
                f"planner_node gave no energies within {LANDSCAPE_TIMEOUT:.0f} s"
            ) from None
        if not answer.success:
            raise Refused(answer.message)
        count = answer.points
        chosen = np.array([answer.chosen.x, answer.chosen.y, answer.chosen.z])
        xy, xz = (np.array(values).reshape(count, count) for values in (answer.xy, answer.xz))
        shown = landscape_image(xy, xz, answer.reach, chosen)
        taken = seconds(answer.header.stamp)
        self._landscape.publish(image_message(shown, taken, answer.header.frame_id))
        response.success = True
        response.message = f"{answer.message}, drawn on visualization/landscape"
        return response

    # Frames ---------------------------------------------------------------------------------

    def _camera_transform(self) -> LinkTransform | None:
        pose = np.array(self.settings.camera_pose)
        if not pose.any():
            return None
        base, camera = self.settings.base.base_frame, self.settings.camera.camera_frame
        return LinkTransform(base, camera, pose[:3], Rotation.from_quat(pose[3:]))

    def _camera_view(self) -> CameraView | None:
        transform, info = self._camera_transform(), self._info
        if transform is None or info is None:
            return None
        matrix = np.array(info.k).reshape(3, 3)
        if not (np.isfinite(matrix).all() and matrix[0, 0] > 0 and matrix[1, 1] > 0):
            return None
        matrix[2] = [0.0, 0.0, 1.0]
        return CameraView(transform.position, transform.rotation, matrix, info.width, info.height)

    def _transform_publisher(self, topic: str, qos: Any) -> Any:
        """Publisher of transforms; None where their messages are not installed."""
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError:
            self.get_logger().warning(f"nothing on {topic}: the package tf2_msgs is not installed")
            return None
        return self.advertise(TFMessage, topic, qos)


def _transforms_message(transforms: list) -> Any:
    from tf2_msgs.msg import TFMessage

    return TFMessage(transforms=transforms)


def main() -> int:
    return run(VisualizerNode, sys.argv)


if __name__ == "__main__":
    sys.exit(main())
