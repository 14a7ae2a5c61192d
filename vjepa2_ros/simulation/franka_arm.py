# SPDX-License-Identifier: Apache-2.0
"""The arm of the simulated cell, driven by torques each millisecond as a Franka controller does.

It knows no network: `franka_server` gives it the commands of the Franka control interface (FCI),
`franka_cell` the time. Frames are those of libfranka: O base, F flange, NE nominal end effector,
EE end effector, K stiffness.
"""

from __future__ import annotations

import copy

import numpy as np
from scipy.spatial.transform import Rotation

from vjepa2_ros.robot.franka_limits import ARMS
from vjepa2_ros.simulation.franka_state import STATE, column_major
from vjepa2_ros.simulation.kinematics import HOME
from vjepa2_ros.simulation.rendering import mujoco

PERIOD = 1e-3
"""Of the control interface [s]."""
MAX_JOINT_VELOCITY = np.asarray(ARMS["fr3"].joint.velocity)
"""Of the FR3 [rad/s]."""
MAX_TORQUE = np.array([87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0])
"""Of the FR3 [Nm]."""
MAX_FINGER_SPEED, MAX_FINGER_FORCE = 0.05, 70.0
"""Of one finger of the Franka Hand [m/s, N]."""
_DECELERATION = 10.0
"""With which the fastest joint brakes, the FR3's limit [rad/s²]."""
_STIFFNESS, _DAMPING = 2500.0, 100.0
"""Of the joints' error dynamics [1/s², 1/s]; critically damped."""
_CARTESIAN_STIFFNESS = np.array([3000.0] * 3 + [300.0] * 3)
"""Of the end effector until a client sets another, the stiffest that can be set [N/m, Nm/rad]."""
_FINGER_STIFFNESS, _FINGER_DAMPING = 2000.0, 40.0
"""[N/m, Ns/m]"""
_CATCH_UP = 0.05
"""Share of a lag that is made up for in a period."""
_TORQUE_FILTER = 0.1
"""Share of the newest value in the external torque: a time constant of 10 ms."""
_YIELD, _YIELD_PERIODS = 0.05, 300
"""Share of a joint's error that is given up in a period, and for how many: it halves in 14 ms."""
_NULL_SPACE_RATE, _NULL_SPACE_SPEED = 1.0, 0.05
"""With which the redundant joint is drawn to `HOME` during a Cartesian motion [1/s, rad/s]."""
_EE_MASS, _EE_CENTRE = 0.73, (-0.01, 0.0, 0.03)
"""Of the Franka Hand [kg, m], as its state says."""


def _hand_pose() -> np.ndarray:
    """F_T_NE of the Franka Hand: its own tool centre point, as Desk sets it."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("z", -np.pi / 4).as_matrix()
    pose[2, 3] = 0.1034
    return pose


class FrankaArm:
    """Arm and gripper of a cell, in a copy of it that is simulated in steps of a millisecond.

    In each period one of `hold`, `extrapolate`, `follow_…` and `apply_torques` says what the arm
    does, and `step` does it.

    Args:
        model: of the cell; not changed.
        data: state that it starts from; not changed.
        closedness: what the gripper was told last, 0 (open) to 1 (closed).

    Attributes:
        model, data: of the copy.
        state: the present state, an array of one `STATE`.
        F_T_NE, NE_T_EE, EE_T_K: frames [4, 4].
        cartesian_stiffness: of the end effector [6] N/m and Nm/rad, where `yields` is set.
        yields: whether the arm follows its commands with that stiffness; else all joints are stiff.
        hand_goal: opening that the gripper was told last [m].
        fingers_blocked: whether something holds the fingers where they are.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, closedness: float) -> None:
        self.model = copy.copy(model)
        self.model.opt.timestep = PERIOD
        # The position actuators of the scene would work against the torques.
        self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_ACTUATION
        self.data = copy.copy(data)
        self._plan = mujoco.MjData(self.model)
        self._flange = self.model.body("link8").id
        self._lower, self._upper = self.model.jnt_range[:7].T.copy()
        self._inertia = np.zeros((self.model.nv, self.model.nv))
        self._jacobian = np.zeros((6, self.model.nv))
        mujoco.mj_step1(self.model, self.data)
        # q_d, dq_d, ddq_d: where the arm should be, without what its controller lags behind.
        self.q_d = self.data.qpos[:7].copy()
        self.dq_d, self.ddq_d = np.zeros(7), np.zeros(7)
        self._torques: np.ndarray | None = None
        self.cartesian_stiffness, self.yields = _CARTESIAN_STIFFNESS, False
        self._yielding = 0
        # What the joints are still off by since commands have come late.
        self._lag, self._commanded = np.zeros(7), self.q_d
        self._external = np.zeros(7)
        self._applied = np.zeros(7)
        self.F_T_NE, self.NE_T_EE, self.EE_T_K = _hand_pose(), np.eye(4), np.eye(4)
        self._twist_c, self._acceleration_c = np.zeros(6), np.zeros(6)
        self._pose_c: np.ndarray | None = None
        self.max_width = 2 * float(self.model.jnt_range[7, 1])
        self.hand_goal = (1.0 - closedness) * self.max_width
        self._hand_speed, self._hand_force = MAX_FINGER_SPEED, 20.0
        self._finger_reference = float(self.data.qpos[7])
        self.fingers_blocked = False
        self._state = np.zeros(1, STATE)
        self.state = self._state[0]
        self._set_constants()
        self._measure()

    # Frames and load ------------------------------------------------------------------------

    @property
    def F_T_EE(self) -> np.ndarray:
        """End effector [4, 4] in the frame of the flange."""
        return self.F_T_NE @ self.NE_T_EE

    def set_end_effector(self, NE_T_EE: np.ndarray) -> None:
        """Set the end effector [4, 4] in the frame of the nominal one."""
        self.NE_T_EE = NE_T_EE
        self._set_constants()

    def set_stiffness_frame(self, EE_T_K: np.ndarray) -> None:
        """Set the frame [4, 4] in which external forces are told, in that of the end effector."""
        self.EE_T_K = EE_T_K
        self._set_constants()

    def set_load(self, mass: float, centre: np.ndarray, inertia: np.ndarray) -> None:
        """Take a load into the state; the model of the arm compensates what it really carries."""
        self.state["m_load"], self.state["F_x_Cload"], self.state["I_load"] = mass, centre, inertia

    def _set_constants(self) -> None:
        state = self.state
        state["F_T_EE"], state["F_T_NE"] = column_major(self.F_T_EE), column_major(self.F_T_NE)
        state["NE_T_EE"], state["EE_T_K"] = column_major(self.NE_T_EE), column_major(self.EE_T_K)
        state["m_ee"], state["F_x_Cee"] = _EE_MASS, _EE_CENTRE
        self._F_T_EE, self._EE_T_K = self.F_T_EE, self.EE_T_K

    # What the arm does in the next period -----------------------------------------------------

    def hold(self) -> None:
        """Brake all joints alike within their acceleration limit, then hold."""
        self._end_command()
        if self._yielding:
            self._yielding -= 1
            self.q_d = self.q_d + _YIELD * (self.data.qpos[:7] - self.q_d)
            return
        speed = float(np.abs(self.dq_d).max())
        rest = max(0.0, 1.0 - _DECELERATION * PERIOD / speed) if speed else 0.0
        self._move_to(self.q_d + self.dq_d * (rest * PERIOD))

    def yield_to_contact(self) -> None:
        """Stop at once, and while it holds give way for a moment, so that no force remains."""
        self._torques = None
        self._be_where_measured()
        self._yielding = _YIELD_PERIODS

    def extrapolate(self) -> None:
        """Go on at the present speed: no command has come for this period."""
        if self._torques is None:
            self.q_d, self.ddq_d = self.q_d + self.dq_d * PERIOD, np.zeros(7)

    def follow_joint_positions(self, q: np.ndarray, periods: int) -> None:
        """Be at joint angles [7] rad, so many periods after the last ones."""
        self._end_torques()
        self._move_to(q, periods)

    def follow_joint_velocities(self, dq: np.ndarray) -> None:
        """Move at joint velocities [7] rad/s."""
        self._end_torques()
        self._move_to(self.q_d + dq * PERIOD)

    def follow_pose(self, pose: np.ndarray, elbow: float | None, periods: int) -> None:
        """Have the end effector at a pose.

        Args:
            pose: [4, 4] in the base frame.
            elbow: angle of joint 3 [rad], None to leave it open.
            periods: since the last pose.
        """
        self._end_torques()
        now, jacobian = self._planned()
        error = np.empty(6)
        error[:3] = pose[:3, 3] - now[:3, 3]
        error[3:] = _rotation_vector(pose[:3, :3] @ now[:3, :3].T)
        self._move_to(self.q_d + self._joint_step(jacobian, error, elbow), periods)
        last, self._pose_c = self._pose_c, pose
        twist = np.zeros(6)
        if last is not None:
            twist[:3] = pose[:3, 3] - last[:3, 3]
            twist[3:] = _rotation_vector(pose[:3, :3] @ last[:3, :3].T)
            twist /= periods * PERIOD
        self._acceleration_c = (twist - self._twist_c) / (periods * PERIOD)
        self._twist_c = twist

    def follow_twist(self, twist: np.ndarray, elbow: float | None, periods: int) -> None:
        """Move the end effector at a velocity.

        Args:
            twist: [6] m/s and rad/s, in the base frame.
            elbow, periods: see `follow_pose`.
        """
        self._end_torques()
        _, jacobian = self._planned()
        self._move_to(self.q_d + self._joint_step(jacobian, twist * PERIOD, elbow))
        self._pose_c = None
        self._acceleration_c = (twist - self._twist_c) / (periods * PERIOD)
        self._twist_c = twist

    def apply_torques(self, torques: np.ndarray) -> None:
        """Apply joint torques [7] Nm, beside those that carry the arm's weight."""
        self._torques = torques

    def _be_where_measured(self) -> None:
        self.q_d = self._commanded = self.data.qpos[:7].copy()
        self.dq_d, self.ddq_d, self._lag = np.zeros(7), np.zeros(7), np.zeros(7)

    def begin_command(self) -> None:
        """A motion begins here: the first command's velocity is measured from here."""
        self._yielding = 0
        self._pose_c = self._planned()[0]

    def _end_command(self) -> None:
        self._end_torques()
        self._pose_c = None
        self._twist_c = self._acceleration_c = np.zeros(6)

    def _end_torques(self) -> None:
        if self._torques is not None:
            self._torques = None
            self._be_where_measured()
            self.dq_d = self.data.qvel[:7].copy()

    def _move_to(self, q: np.ndarray, periods: int = 1) -> None:
        dq = (q - self.q_d) / PERIOD
        if periods > 1:
            # The arm has gone on meanwhile. It is led to where it should be by now, not thrown.
            self._lag = self._lag + self.q_d + self.dq_d * PERIOD - q
            dq = (q - self._commanded) / (periods * PERIOD)
        self.ddq_d = (dq - self.dq_d) / (periods * PERIOD)
        self.q_d, self.dq_d, self._commanded = q, dq, q

    def _planned(self) -> tuple[np.ndarray, np.ndarray]:
        """Pose [4, 4] and Jacobian [6, 7] of the end effector at `q_d`."""
        self._plan.qpos[:7] = self.q_d
        mujoco.mj_kinematics(self.model, self._plan)
        mujoco.mj_comPos(self.model, self._plan)
        pose = self._pose_of(self._plan)
        return pose, self._jacobian_at(self._plan, pose[:3, 3])

    def _joint_step(
        self, jacobian: np.ndarray, change: np.ndarray, elbow: float | None
    ) -> np.ndarray:
        """Joint angles [7] rad to add, for a change of the pose [6]."""
        inverse = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + 1e-5 * np.eye(6))
        wanted = np.zeros(7)
        if elbow is None:
            wanted = (HOME - self.q_d) * _NULL_SPACE_RATE
            limit = _NULL_SPACE_SPEED
        else:
            wanted[2] = (elbow - self.q_d[2]) / PERIOD
            limit = float(MAX_JOINT_VELOCITY[2])
        wanted = np.clip(wanted, -limit, limit) * PERIOD
        return inverse @ (change - jacobian @ wanted) + wanted

    # Checks -----------------------------------------------------------------------------------

    def beyond_position_limits(self) -> bool:
        """Whether a joint is commanded beyond its range."""
        return bool((self.q_d < self._lower).any() or (self.q_d > self._upper).any())

    def beyond_velocity_limits(self) -> bool:
        """Whether a joint is commanded to be faster than it may be."""
        return bool((np.abs(self.dq_d) > MAX_JOINT_VELOCITY).any())

    @property
    def at_rest(self) -> bool:
        """Whether the arm is neither commanded to move nor measured to."""
        return not self.dq_d.any() and bool(np.abs(self.data.qvel[:7]).max() < 5e-3)

    # Gripper ----------------------------------------------------------------------------------

    @property
    def hand_width(self) -> float:
        """Measured opening of the gripper [m]."""
        return float(self.data.qpos[7:9].sum())

    def set_hand_goal(self, width: float, max_velocity: float, max_force: float) -> None:
        """Open or close the gripper.

        Args:
            width: opening [m].
            max_velocity: of a finger [m/s].
            max_force: of a finger [N].
        """
        self.hand_goal = min(max(float(width), 0.0), self.max_width)
        self._hand_speed = min(max(float(max_velocity), 0.0), MAX_FINGER_SPEED)
        self._hand_force = min(max(float(max_force), 0.0), MAX_FINGER_FORCE)

    def _finger_forces(self) -> np.ndarray:
        fingers, speeds = self.data.qpos[7:9], self.data.qvel[7:9]
        middle = float(fingers.sum()) / 2
        force = MAX_FINGER_FORCE if self.fingers_blocked else self._hand_force
        if not self.fingers_blocked:
            step = self._hand_speed * PERIOD
            ahead = min(max(self.hand_goal / 2 - self._finger_reference, -step), step)
            # At an object it runs ahead as far as the force needs. On the way back it begins at
            # the fingers: they would else be late.
            reach = force / _FINGER_STIFFNESS
            lowest = middle if ahead > 0 else middle - reach
            highest = middle if ahead < 0 else middle + reach
            self._finger_reference = min(max(self._finger_reference + ahead, lowest), highest)
        wanted = _FINGER_STIFFNESS * (self._finger_reference - fingers) - _FINGER_DAMPING * speeds
        return np.clip(wanted, -force, force)

    def block_fingers(self, blocked: bool) -> None:
        """Hold the fingers where they are, or let go of them."""
        self.fingers_blocked = blocked
        self._finger_reference = self.hand_width / 2

    # Physics ----------------------------------------------------------------------------------

    def step(self) -> None:
        """Simulate one period."""
        data = self.data
        # The scene compensates gravity; what is left are Coriolis forces and friction.
        rest = data.qfrc_bias[:7] - data.qfrc_passive[:7]
        if self._torques is None:
            torques = self._tracking_torques() + rest
        else:
            torques = self._torques + rest
        self._applied = np.clip(torques, -MAX_TORQUE, MAX_TORQUE)
        data.qfrc_applied[:7] = self._applied
        data.qfrc_applied[7:9] = self._finger_forces()
        mujoco.mj_step2(self.model, data)
        # Afterwards poses and contacts are those of the new joint angles.
        mujoco.mj_step1(self.model, data)
        self._external += _TORQUE_FILTER * (data.qfrc_constraint[:7] - self._external)
        self._measure()

    def _tracking_torques(self) -> np.ndarray:
        """Torques [7] Nm that lead the arm to `q_d`, beside Coriolis forces and friction."""
        data, free = self.data, np.eye(7)
        mujoco.mj_fullM(self.model, data, self._inertia)
        inertia = self._inertia[:7, :7]
        dq_d = self.dq_d - self._lag * (_CATCH_UP / PERIOD)
        error, speed_error = self.q_d + self._lag - data.qpos[:7], dq_d - data.qvel[:7]
        self._lag = self._lag * (1.0 - _CATCH_UP)
        torques = np.zeros(7)
        if self.yields:
            # Only motions that leave the end effector where it is are as stiff as the joints.
            pose = self._pose_of(data)
            jacobian = self._jacobian_at(data, pose[:3, 3])
            free = free - np.linalg.pinv(jacobian) @ jacobian
            torques = jacobian.T @ self._force(pose, jacobian, inertia, speed_error)
        acceleration = self.ddq_d + free @ (_STIFFNESS * error + _DAMPING * speed_error)
        return inertia @ acceleration + torques

    def _force(
        self, pose: np.ndarray, jacobian: np.ndarray, inertia: np.ndarray, speed_error: np.ndarray
    ) -> np.ndarray:
        """Force and torque [6] on the end effector towards where it should be, well damped."""
        planned = self._planned()[0]
        error = np.empty(6)
        error[:3] = planned[:3, 3] - pose[:3, 3]
        error[3:] = _rotation_vector(planned[:3, :3] @ pose[:3, :3].T)
        mobility = jacobian @ np.linalg.solve(inertia, jacobian.T)
        damping = 2.0 * np.sqrt(self.cartesian_stiffness / np.diag(mobility))
        return self.cartesian_stiffness * error + damping * (jacobian @ speed_error)

    def _measure(self) -> None:
        state, data = self.state, self.data
        pose = self._pose_of(data)
        planned, jacobian_d = self._planned()
        K = pose @ self._EE_T_K
        jacobian = self._jacobian_at(data, K[:3, 3])
        # As libfranka: what the arm exerts on its surroundings, not what they exert on it.
        torques = -self._external
        wrench = np.linalg.solve(jacobian @ jacobian.T + 1e-5 * np.eye(6), jacobian @ torques)
        state["O_T_EE"], state["O_T_EE_d"] = column_major(pose), column_major(planned)
        state["O_T_EE_c"] = column_major(planned if self._pose_c is None else self._pose_c)
        state["O_dP_EE_d"] = jacobian_d @ self.dq_d
        state["O_dP_EE_c"], state["O_ddP_EE_c"] = self._twist_c, self._acceleration_c
        state["q"] = state["theta"] = data.qpos[:7]
        state["dq"] = state["dtheta"] = data.qvel[:7]
        state["q_d"], state["dq_d"], state["ddq_d"] = self.q_d, self.dq_d, self.ddq_d
        state["tau_J"] = self._applied + data.qfrc_gravcomp[:7]
        state["tau_J_d"] = self._applied
        state["tau_ext_hat_filtered"] = torques
        state["O_F_ext_hat_K"] = wrench
        state["K_F_ext_hat_K"] = (wrench.reshape(2, 3) @ K[:3, :3]).ravel()
        state["elbow"] = data.qpos[2], np.sign(data.qpos[3])
        state["elbow_d"] = state["elbow_c"] = self.q_d[2], np.sign(self.q_d[3])
        state["delbow_c"] = self.dq_d[2], 0.0
        state["ddelbow_c"] = self.ddq_d[2], 0.0

    def _pose_of(self, data: mujoco.MjData) -> np.ndarray:
        flange = np.eye(4)
        flange[:3, :3] = data.xmat[self._flange].reshape(3, 3)
        flange[:3, 3] = data.xpos[self._flange]
        return flange @ self._F_T_EE

    def _jacobian_at(self, data: mujoco.MjData, point: np.ndarray) -> np.ndarray:
        jacobian = self._jacobian
        mujoco.mj_jac(self.model, data, jacobian[:3], jacobian[3:], point, self._flange)
        return jacobian[:, :7].copy()


def _rotation_vector(turn: np.ndarray) -> np.ndarray:
    """Axis times angle [3] of a rotation matrix [3, 3]; those of one period are small."""
    axis = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
    sine = 0.5 * float(np.sqrt(axis @ axis))
    if sine < 1e-6:
        return axis / 2
    return axis * (np.arctan2(sine, (np.trace(turn) - 1.0) / 2) / (2 * sine))
