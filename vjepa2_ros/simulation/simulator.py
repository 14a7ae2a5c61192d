# SPDX-License-Identifier: Apache-2.0
"""The simulated robot cell: physics, Cartesian tracking and one exterior camera.

It has no clock of its own: `advance` moves the world by the seconds it is given, so that training
and evaluation run as fast as they can and a node runs it in real time.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from vjepa2_ros.robot.driver import RobotDescription, RobotState
from vjepa2_ros.robot.franka_limits import HAND_STROKE
from vjepa2_ros.robot.kinematics import FrankaKinematics
from vjepa2_ros.settings.cell import Workspace
from vjepa2_ros.simulation.kinematics import HOME, InverseKinematics, PoseReference
from vjepa2_ros.simulation.rendering import create_renderer, mujoco

SCENE = Path(__file__).parent / "assets" / "scene.xml"
DOWN = Rotation.from_euler("xyz", [np.pi, 0.0, 0.0])
"""Orientation of the hand with its fingers pointing at the table."""


def hand_rotation(yaw: float) -> Rotation:
    """Orientation of the hand that points down, turned by a yaw [rad] in the base frame."""
    return Rotation.from_euler("z", yaw) * DOWN


OBJECTS = ("cup", "box")
"""Names of the objects on the table, in the order of all arrays over them."""
REST_HEIGHTS = (0.045, 0.025)
"""Height of the centres of cup and box that stand on the table [m]."""
GRASP_HEIGHTS = (0.06, 0.035)
"""Height of the tool centre point [m] at which cup and box are grasped on the table."""
TRAINING_SCENES = range(1_000_000, 2_000_000)
"""Seeds of the scenes of training, with any seed of its own; no evaluation uses them."""


@dataclass(frozen=True)
class SimulatorConfig:
    """Workspace and motion of the simulated arm; every task uses the defaults.

    Attributes:
        workspace: box in which start poses and goals lie, base frame.
        object_lower, object_upper: rectangle (x, y) [m] in which cup and box are placed.
        object_spacing: smallest horizontal distance [m] between cup, box and the start pose: the
            hand is 20 cm wide.
        box_yaw: the box is turned by at most this angle [rad] either way from the yaw at which its
            short side lies between the fingers.
        light: brightness and direction of the light vary by at most this share.
        max_speed: translation [m/s].
        max_acceleration: translation [m/s²].
        max_turn_rate: rotation [rad/s].
        control_period: [s] between two updates of the joint targets.
    """

    workspace: Workspace = Workspace()
    object_lower: tuple[float, float] = (0.38, -0.22)
    object_upper: tuple[float, float] = (0.62, 0.22)
    object_spacing: float = 0.16
    box_yaw: float = 0.0
    light: float = 0.2
    max_speed: float = 0.25
    max_acceleration: float = 1.5
    max_turn_rate: float = 1.0
    control_period: float = 0.02


@dataclass(frozen=True)
class Snapshot:
    """State of a simulated cell at one moment, for `Simulator.restore`.

    Attributes:
        scene: seed and variant of the scene.
        physics: MuJoCo's integration state.
        joints: joint targets [7] rad.
        closedness: commanded, 0 (open) to 1 (closed).
        reference: position [3] m and rotation of the arm's reference, at rest.
    """

    scene: tuple[int, int]
    physics: np.ndarray
    joints: np.ndarray
    closedness: float
    reference: tuple[np.ndarray, Rotation]


class Simulator:
    """A Franka arm with its hand, a cup and a box on a table, and the exterior camera.

    Poses are those of the tool centre point in the base frame. States are 7-D: x y z [m], extrinsic
    Euler xyz [rad], gripper closedness 0 (open) to 1 (closed).

    Args:
        config: workspace and motion.

    Attributes:
        config: as above.
        model: MuJoCo's model of the cell.
        data: MuJoCo's state of the cell.
    """

    def __init__(self, config: SimulatorConfig = SimulatorConfig()) -> None:
        self.config = config
        self.model = mujoco.MjModel.from_xml_path(str(SCENE))
        self.data = mujoco.MjData(self.model)
        self._site = self.model.site("tool").id
        self._kinematics = InverseKinematics(self.model)
        self._reference = PoseReference(
            config.max_speed, config.max_acceleration, config.max_turn_rate
        )
        self._joints = HOME.copy()
        self._closedness = 0.0
        self._renderers: dict[int, mujoco.Renderer] = {}
        self._fingers = [self.model.body(f"{side}_finger").id for side in ("left", "right")]
        self._objects = [self.model.body(name).id for name in OBJECTS]
        self._lamp = self.model.light("lamp").id
        self._light = (
            self.model.vis.headlight.ambient.copy(),
            self.model.vis.headlight.diffuse.copy(),
            self.model.light_diffuse[self._lamp].copy(),
            self.model.light_dir[self._lamp].copy(),
        )
        self.reset(0)

    def reset(self, seed: int, variant: int = 0) -> None:
        """Draw places of cup, box and hand, and the light; `time` is 0 again.

        Args:
            seed: of the scene.
            variant: another scene of the same seed.
        """
        self._scene = seed, variant
        random = np.random.default_rng([seed, variant] if variant else seed)
        config = self.config
        start = random.uniform(config.workspace.lower, config.workspace.upper)
        places = [start[:2]] if start[2] < 0.2 else []
        while len(places) < (3 if start[2] < 0.2 else 2):
            place = random.uniform(config.object_lower, config.object_upper)
            if all(np.linalg.norm(place - other) > config.object_spacing for other in places):
                places.append(place)
        turns = random.uniform(-1.0, 1.0, 2) * (np.pi, config.box_yaw)
        mujoco.mj_resetData(self.model, self.data)
        self._set_light()
        for name, place, turn in zip(OBJECTS, places[-2:], turns, strict=True):
            joint = self.data.joint(name)
            joint.qpos[:2] = place
            # MuJoCo puts w first; scipy has an option for that only from 1.14 on.
            joint.qpos[3:] = Rotation.from_euler("z", turn).as_quat()[[3, 0, 1, 2]]
        self.place(start, DOWN, 0.0)

    def _set_light(self) -> None:
        random = np.random.default_rng([*self._scene, 1])
        share = self.config.light
        ambient, diffuse, lamp, direction = self._light
        self.model.vis.headlight.ambient = ambient * random.uniform(1 - share, 1 + share)
        self.model.vis.headlight.diffuse = diffuse * random.uniform(1 - share, 1 + share)
        self.model.light_diffuse[self._lamp] = lamp * random.uniform(1 - share, 1 + share)
        self.model.light_dir[self._lamp] = direction + share * random.uniform(-1.0, 1.0, 3)

    def snapshot(self) -> Snapshot:
        """The present state; the arm is taken to be at rest."""
        parts = mujoco.mjtState.mjSTATE_INTEGRATION
        physics = np.empty(mujoco.mj_stateSize(self.model, parts))
        mujoco.mj_getState(self.model, self.data, physics, parts)
        reference = self._reference.position.copy(), self._reference.rotation
        return Snapshot(self._scene, physics, self._joints.copy(), self._closedness, reference)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a state of this cell."""
        self._scene = snapshot.scene
        self._set_light()
        parts = mujoco.mjtState.mjSTATE_INTEGRATION
        mujoco.mj_setState(self.model, self.data, snapshot.physics, parts)
        mujoco.mj_forward(self.model, self.data)
        self._joints, self._closedness = snapshot.joints.copy(), snapshot.closedness
        self._reference.set(*snapshot.reference)

    def show(self, data: mujoco.MjData, closedness: float) -> None:
        """Take over a state of this cell that is simulated elsewhere, to measure and render it.

        Args:
            data: of a model of this cell.
            closedness: what the gripper was told last there, 0 (open) to 1 (closed).
        """
        mujoco.mj_copyData(self.data, self.model, data)
        self._closedness = closedness

    def place(self, position: np.ndarray, rotation: Rotation, closedness: float) -> None:
        """Put the hand at a pose at once, at rest; no motion is simulated, and no object moves.

        Args:
            position: [3] in metres.
            rotation: of the hand.
            closedness: of the gripper, 0 (open) to 1 (closed).
        """
        self._joints = self._kinematics.solve(np.asarray(position, float), rotation)
        width = (1.0 - closedness) * HAND_STROKE / 2
        self.data.qpos[:7] = self._joints
        self.data.qpos[7:9] = width
        self.data.qvel[:] = 0.0
        self.data.ctrl[:7] = self._joints
        self.data.ctrl[7] = width
        self._closedness = closedness
        mujoco.mj_forward(self.model, self.data)
        self._reference.set(*self._tool())

    def place_object(self, index: int, place: np.ndarray) -> None:
        """Put an object at another place [2] on the table at once, as it stands; for measurements.

        Args:
            index: in `OBJECTS`.
            place: x and y of its centre [m].
        """
        joint = self.data.joint(OBJECTS[index])
        joint.qpos[:2] = place
        joint.qvel[:] = 0.0
        mujoco.mj_forward(self.model, self.data)

    def set_target(
        self, position: np.ndarray, quaternion_xyzw: np.ndarray, closedness: float
    ) -> None:
        """Move towards an absolute pose from now on, replacing the last target.

        Args:
            position: [3] in metres, base frame.
            quaternion_xyzw: [4], unit length, of the hand in the base frame.
            closedness: 0 (open) to 1 (closed).

        Raises:
            ValueError: a value is not finite, or the quaternion has no length.
        """
        values = np.concatenate([position, quaternion_xyzw, [closedness]]).astype(float)
        if values.shape != (8,) or not np.isfinite(values).all():
            raise ValueError(f"a target needs 3 + 4 + 1 finite values, got {values}")
        self._reference.target_position = values[:3]
        self._reference.target_rotation = Rotation.from_quat(values[3:7])
        self._closedness = float(np.clip(closedness, 0.0, 1.0))

    def halt(self) -> None:
        """Brake within the acceleration limit and hold."""
        self._reference.halt()

    def settled(self) -> bool:
        """True when the reference of the arm is at rest at its target."""
        return self._reference.settled()

    def advance(self, seconds: float) -> None:
        """Simulate `seconds` of physics and tracking, rounded to whole control periods."""
        period = self.config.control_period
        substeps = round(period / self.model.opt.timestep)
        for _ in range(max(1, round(seconds / period))):
            self._reference.advance(period)
            self._joints = self._kinematics.step(
                self._joints, self._reference.position, self._reference.rotation
            )
            self.data.ctrl[:7] = self._joints
            self.data.ctrl[7] = (1.0 - self._closedness) * HAND_STROKE / 2
            mujoco.mj_step(self.model, self.data, nstep=substeps)

    def pose(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Measured position [3] in metres, quaternion xyzw [4] and gripper closedness."""
        position, rotation = self._tool()
        closedness = 1.0 - float(self.data.qpos[7:9].sum()) / HAND_STROKE
        return position, rotation.as_quat(), min(max(closedness, 0.0), 1.0)

    def state(self) -> np.ndarray:
        """Measured 7-D state [7] float64."""
        position, rotation = self._tool()
        return np.concatenate([position, rotation.as_euler("xyz"), [self.pose()[2]]])

    def measured(self, stamp: float) -> RobotState:
        """Measured state as a driver of the robot reports it, at the time `stamp` [s]."""
        return RobotState(
            *self.pose(),
            stamp,
            self.commanded_closedness,
            joint_positions=self.data.qpos[:7].copy(),
            joint_velocities=self.data.qvel[:7].copy(),
        )

    def describe(self) -> RobotDescription:
        """What does not change while the arm is driven."""
        lower, upper = self.model.jnt_range[:7].T
        names = tuple(self.model.joint(number).name for number in range(7))
        return RobotDescription(
            "simulated Franka arm",
            self.config.max_speed,
            HAND_STROKE,
            names,
            lower,
            upper,
            FrankaKinematics(),
        )

    @property
    def seed(self) -> int:
        """Seed of the scene."""
        return self._scene[0]

    @property
    def time(self) -> float:
        """Simulated time since the last `reset` [s]."""
        return float(self.data.time)

    def object_positions(self) -> np.ndarray:
        """True centres of cup and box [2, 3] in metres: for scores, never for training."""
        return self.data.xpos[self._objects].copy()

    def grasp_yaws(self) -> np.ndarray:
        """Yaws of the hand [2] at which the fingers fit cup and box as they lie [rad].

        The cup is round: 0. The box looks the same from both ends: -pi / 2 to pi / 2.
        """
        matrix = self.data.xmat[self._objects[OBJECTS.index("box")]]
        lies = np.arctan2(matrix[3], matrix[0])
        return np.array([0.0, (lies + np.pi / 2) % np.pi - np.pi / 2])

    def object_tilts(self) -> np.ndarray:
        """True angles of the objects' own vertical axes to the vertical [2] in radians."""
        return np.arccos(np.clip(self.data.xmat[self._objects, 8], -1.0, 1.0))

    def held(self) -> np.ndarray:
        """Whether both fingers touch an object, for each of `OBJECTS` [2] bool."""
        bodies = self.model.geom_bodyid[self.data.contact.geom]
        return np.array(
            [
                all(
                    ((bodies == finger) | (bodies == body)).all(axis=1).any()
                    for finger in self._fingers
                )
                for body in self._objects
            ]
        )

    @property
    def commanded_closedness(self) -> float:
        """What the gripper was told last, 0 (open) to 1 (closed)."""
        return self._closedness

    def render(self, size: int = 256) -> np.ndarray:
        """Image of the exterior camera, uint8 RGB [size, size, 3].

        Raises:
            SimulatorError: there is no OpenGL context to render with.
        """
        if size not in self._renderers:
            self._renderers[size] = create_renderer(self.model, size)
        renderer = self._renderers[size]
        renderer.update_scene(self.data, camera="exterior")
        return renderer.render()

    def camera_matrix(self, size: int = 256) -> np.ndarray:
        """Pinhole matrix K [3, 3] in pixels, for an image of `size` × `size`."""
        focal = (
            size / 2 / np.tan(self.model.cam_fovy[self.model.camera("exterior").id] * np.pi / 360)
        )
        return np.array([[focal, 0.0, size / 2], [0.0, focal, size / 2], [0.0, 0.0, 1.0]])

    def _tool(self) -> tuple[np.ndarray, Rotation]:
        matrix = self.data.site_xmat[self._site].reshape(3, 3)
        return self.data.site_xpos[self._site].copy(), Rotation.from_matrix(matrix)
