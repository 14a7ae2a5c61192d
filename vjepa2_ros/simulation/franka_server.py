# SPDX-License-Identifier: Apache-2.0
"""The Franka control interface (FCI) of a simulated arm: modes, motions, reflexes and gripper.

`franky_sim` brings the protocol. Its own server has no errors: here are those that a driver has to
live with, raised as the robot's controller raises them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from franky_sim.franka_gripper_protocol import GripperCommandStatus
from franky_sim.franka_gripper_server import FrankaGripperServer
from franky_sim.franka_robot_protocol import (
    AutomaticErrorRecoveryCommand,
    AutomaticErrorRecoveryStatus,
    GetRobotModelCommand,
    MoveCommand,
    MoveCommandControllerMode,
    MoveCommandMotionGeneratorMode,
    MoveStatus,
    RobotCommand,
    RobotMode,
    SetCartesianImpedanceCommand,
    SetCollisionBehaviorCommand,
    SetEEToKCommand,
    SetJointImpedanceCommand,
    SetLoadCommand,
    SetNEToEECommand,
    StateControllerMode,
    StateMotionGeneratorMode,
    StopMoveCommand,
    UDPCommand,
)
from franky_sim.franka_server import BaseCommand, FrankaServer

from vjepa2_ros.simulation.faults import distort
from vjepa2_ros.simulation.franka_arm import PERIOD, FrankaArm
from vjepa2_ros.simulation.franka_state import Error, pose_matrix

ARM_PORT, GRIPPER_PORT = 1337, 1338
"""TCP ports of the interface."""
_POLL = 5e-5
"""Between two looks for the client's command [s]."""
_VERSION = 10
"""Of the protocol: that of the FR3's system 5.9, which libfranka 0.18 and later speak."""
_GENERATOR = {
    MoveCommandMotionGeneratorMode.kJointPosition: StateMotionGeneratorMode.kJointPosition,
    MoveCommandMotionGeneratorMode.kJointVelocity: StateMotionGeneratorMode.kJointVelocity,
    MoveCommandMotionGeneratorMode.kCartesianPosition: StateMotionGeneratorMode.kCartesianPosition,
    MoveCommandMotionGeneratorMode.kCartesianVelocity: StateMotionGeneratorMode.kCartesianVelocity,
}
_CARTESIAN = (
    StateMotionGeneratorMode.kCartesianPosition,
    StateMotionGeneratorMode.kCartesianVelocity,
)


@dataclass(frozen=True)
class Checks:
    """What the controller of the arm watches.

    Attributes:
        collisions: external forces and torques above the thresholds of the collision behaviour are
            a reflex.
        limits: joints commanded beyond their position or velocity limits end a motion.
        silence: a motion ends when no command has come for so long [s]; 0: never. The robot has
            0.02; more suits a machine that is too slow for a client of 1 kHz.
        patience: how long, in real time, the robot's time stands still for a client that owes the
            command of a period [s]; 0: not at all. No real robot waits. Without it, a client on a
            machine that is busy and has no real-time kernel misses so many periods that what the
            robot extrapolates leaves the speed that was commanded.
        recovery: how long the robot recovers from an error [s].
    """

    collisions: bool = True
    limits: bool = True
    silence: float = 0.02
    patience: float = 0.1
    recovery: float = 0.5


class ArmServer(FrankaServer):
    """The arm on port 1337, for one client at a time.

    Called once a period: `process_commands`, then `FrankaArm.step`, then `send_state`.

    Args:
        arm: that it drives.
        host: address that it listens on.
        checks: what it watches.

    Attributes:
        state_faults: names of the faults of its states, see `faults.STATE_FAULTS`.
    """

    def __init__(self, arm: FrankaArm, host: str, checks: Checks) -> None:
        commands = {
            RobotCommand.kMove: _Move,
            RobotCommand.kStopMove: _StopMove,
            RobotCommand.kSetCollisionBehavior: _SetCollisionBehavior,
            RobotCommand.kSetJointImpedance: SetJointImpedanceCommand,
            RobotCommand.kSetCartesianImpedance: _SetCartesianImpedance,
            RobotCommand.kGetRobotModel: GetRobotModelCommand,
            RobotCommand.kAutomaticErrorRecovery: _AutomaticErrorRecovery,
            RobotCommand.kSetLoad: _SetLoad,
            RobotCommand.kSetNEToEE: _SetNEToEE,
            RobotCommand.kSetEEToK: _SetEEToK,
        }
        super().__init__([host], ARM_PORT, commands, _VERSION)
        self.arm = arm
        self._checks = checks
        # Those of libfranka's examples, until a client sets others.
        self.torque_thresholds = np.array([20.0, 20.0, 18.0, 18.0, 16.0, 14.0, 12.0])
        self.force_thresholds = np.array([20.0, 20.0, 20.0, 25.0, 25.0, 25.0])
        self.state_faults: tuple[str, ...] = ()
        self._sent = b""
        self._user_stopped = False
        self._recovering: tuple[_AutomaticErrorRecovery, int] | None = None
        self._motion_id = self._last_message = 0
        self._end_session()

    # Modes ------------------------------------------------------------------------------------

    @property
    def mode(self) -> RobotMode:
        """Mode of the robot, as its state says."""
        if self._user_stopped:
            return RobotMode.kUserStopped
        if self._recovering is not None:
            return RobotMode.kAutomaticErrorRecovery
        if self.arm.state["errors"].any():
            return RobotMode.kReflex
        return RobotMode.kMove if self._motion_id else RobotMode.kIdle

    def start(self, command: _Move) -> MoveStatus:
        """Begin a motion, if the robot is idle."""
        if self.mode is not RobotMode.kIdle:
            return MoveStatus.kCommandNotPossibleRejected
        if command.controller_mode is MoveCommandControllerMode.kExternalController:
            self._controller = StateControllerMode.kExternalController
            self._generator = StateMotionGeneratorMode.kNone
        elif command.motion_generator_mode in _GENERATOR:
            self._controller = StateControllerMode(command.controller_mode.value)
            self._generator = _GENERATOR[command.motion_generator_mode]
        else:
            return MoveStatus.kInvalidArgumentRejected
        self.arm.yields = (
            command.controller_mode is MoveCommandControllerMode.kCartesianImpedance
        )
        self._motion_id = command.command_id
        self._command: UDPCommand | None = None
        self._silent = 0
        self._gave_up = False
        self.arm.state["reflex_reason"] = 0
        self.arm.begin_command()
        return MoveStatus.kMotionStarted

    def end(self, status: MoveStatus) -> None:
        """End the motion under way, if there is one, and tell the client how."""
        motion, self._motion_id = self._motion_id, 0
        self._controller = StateControllerMode.kOther
        self._generator = StateMotionGeneratorMode.kIdle
        if motion and self.tcp_connected:
            BaseCommand.send_response(self._tcp_socket, RobotCommand.kMove, motion, status)

    def reflex(self, error: Error, status: MoveStatus = MoveStatus.kReflexAborted) -> None:
        """Stop for an error, until the client recovers from it."""
        for field in ("errors", "reflex_reason"):
            self.arm.state[field][error] = 1
        if error in (Error.CARTESIAN_REFLEX, Error.JOINT_REFLEX):
            # Else the arm would go on pressing on what it has met.
            self.arm.yield_to_contact()
        self.end(status)

    def set_user_stop(self, pressed: bool) -> None:
        """Press or release the user stop."""
        self._user_stopped = pressed
        if pressed:
            self._end_recovery(AutomaticErrorRecoveryStatus.kEmergencyAborted)
            self.end(MoveStatus.kEmergencyAborted)

    def recover(self, command: _AutomaticErrorRecovery) -> None:
        """Begin to recover; the answer comes at its end."""
        if self.mode not in (RobotMode.kIdle, RobotMode.kReflex):
            command.reply(AutomaticErrorRecoveryStatus.kCommandNotPossibleRejected)
            return
        self._recovering = command, round(self._checks.recovery / PERIOD)

    def _end_recovery(self, status: AutomaticErrorRecoveryStatus) -> None:
        if self._recovering is not None:
            command, _ = self._recovering
            self._recovering = None
            if command.client_socket is self._tcp_socket:
                command.reply(status)

    # One period -------------------------------------------------------------------------------

    def _pre_process_commands(self) -> None:
        self._fresh = False

    def _handle_udp_command(self, command_data: bytes) -> None:
        command = UDPCommand.from_bytes(command_data)
        if not self._motion_id or command.message_id <= self._last_message:
            return
        self._last_message = command.message_id
        if command.motion_generation_finished or command.torque_command_finished:
            self.end(MoveStatus.kSuccess)
        else:
            self._command, self._fresh = command, True

    def _post_process_commands(self) -> None:
        self._wait_for_command()
        self._success += 0.01 * (self._fresh - self._success)
        if self._recovering is not None:
            command, left = self._recovering
            self._recovering = command, left - 1
            if left <= 1:
                self.arm.state["errors"] = 0
                self._end_recovery(AutomaticErrorRecoveryStatus.kSuccess)
        if self._motion_id:
            self._follow()
        if not self._motion_id:
            self.arm.hold()

    def _wait_for_command(self) -> None:
        """Wait for the answer to the last state; not again before one has come."""
        if self._gave_up and not self._fresh:
            return
        deadline = time.monotonic() + self._checks.patience
        while self._motion_id and not self._fresh and time.monotonic() < deadline:
            time.sleep(_POLL)
            self._process_udp_commands()
        self._gave_up = not self._fresh

    def _follow(self) -> None:
        if self._command is None:
            self.arm.extrapolate()
            return
        self._silent += 1
        if self._fresh:
            if not self._obey(self._command):
                self.end(MoveStatus.kInputErrorAborted)
                return
            self._silent = 0
        elif 0 < self._checks.silence <= self._silent * PERIOD:
            self.reflex(Error.COMMUNICATION_CONSTRAINTS_VIOLATION)
            return
        else:
            self.arm.extrapolate()
        if error := self._violation():
            self.reflex(error)

    def _obey(self, command: UDPCommand) -> bool:
        """Hand a command on to the arm; False if it is not finite."""
        if self._controller is StateControllerMode.kExternalController:
            values = np.array(command.tau_J_d)
        elif self._generator is StateMotionGeneratorMode.kJointPosition:
            values = np.array(command.q_c)
        elif self._generator is StateMotionGeneratorMode.kJointVelocity:
            values = np.array(command.dq_c)
        elif self._generator is StateMotionGeneratorMode.kCartesianPosition:
            values = pose_matrix(command.O_T_EE_c)
        else:
            values = np.array(command.O_dP_EE_c)
        elbow = command.elbow_c[0] if command.valid_elbow else None
        if not np.isfinite(values).all() or not np.isfinite(elbow or 0.0):
            return False
        if self._controller is StateControllerMode.kExternalController:
            self.arm.apply_torques(values)
        elif self._generator is StateMotionGeneratorMode.kJointPosition:
            self.arm.follow_joint_positions(values, self._silent)
        elif self._generator is StateMotionGeneratorMode.kJointVelocity:
            self.arm.follow_joint_velocities(values)
        elif self._generator is StateMotionGeneratorMode.kCartesianPosition:
            self.arm.follow_pose(values, elbow, self._silent)
        else:
            self.arm.follow_twist(values, elbow, self._silent)
        return True

    def _violation(self) -> Error | None:
        arm, cartesian = self.arm, self._generator in _CARTESIAN
        if self._checks.collisions:
            if (np.abs(arm.state["O_F_ext_hat_K"]) > self.force_thresholds).any():
                return Error.CARTESIAN_REFLEX
            if (np.abs(arm.state["tau_ext_hat_filtered"]) > self.torque_thresholds).any():
                return Error.JOINT_REFLEX
        if self._checks.limits and arm.beyond_position_limits():
            return (
                Error.CARTESIAN_MOTION_GENERATOR_JOINT_POSITION_LIMITS_VIOLATION
                if cartesian
                else Error.JOINT_MOTION_GENERATOR_POSITION_LIMITS_VIOLATION
            )
        if self._checks.limits and arm.beyond_velocity_limits():
            return (
                Error.CARTESIAN_MOTION_GENERATOR_JOINT_VELOCITY_LIMITS_VIOLATION
                if cartesian
                else Error.JOINT_MOTION_GENERATOR_VELOCITY_LIMITS_VIOLATION
            )
        return None

    def send_state(self) -> None:
        """Send the present state to the client, if there is one."""
        if "state_gone" not in self.state_faults:
            super().send_state()

    def _get_state_bytes(self) -> bytes:
        state = self.arm.state
        state["robot_mode"] = self.mode
        state["controller_mode"], state["motion_generator_mode"] = self._controller, self._generator
        state["control_command_success_rate"] = self._success if self._motion_id else 0.0
        if self.state_faults:
            if "state_frozen" in self.state_faults:
                return self._sent or state.tobytes()
            state = state.copy()
            distort(state, self.state_faults)
        self._sent = state.tobytes()
        return self._sent

    # Connection -------------------------------------------------------------------------------

    def _reset_state(self) -> None:
        # The connection has ended, or the server begins.
        if self._motion_id:
            self._motion_id = 0
            self.reflex(Error.COMMUNICATION_CONSTRAINTS_VIOLATION)
        self._end_session()

    def _end_session(self) -> None:
        self._controller = StateControllerMode.kOther
        self._generator = StateMotionGeneratorMode.kIdle
        self._command, self._fresh = None, False
        self._silent, self._last_message, self._success = 0, 0, 0.0
        self._gave_up = False


class GripperServer(FrankaGripperServer):
    """The gripper on port 1338, which something can block.

    Args:
        arm: whose gripper it drives.
        host: address that it listens on.
    """

    def start_grasp(self, width: float, speed: float, force: float, *arguments: Any) -> None:
        """Close, or open, until something stops the fingers; `width` only judges the outcome."""
        opens = width > self._robot.hand_width
        super().start_grasp(width, speed, force, *arguments)
        self._robot.set_hand_goal(self._robot.max_width if opens else 0.0, speed, force)

    def stop(self, command_id: int, tcp_socket: Any) -> None:
        """Hold the fingers where they are; a command under way is answered as aborted."""
        if self._pending_command_id is not None:
            BaseCommand.send_response(
                self._pending_tcp_socket,
                self._pending_command_type,
                self._pending_command_id,
                GripperCommandStatus.kAborted,
                command_type_struct="H",
                status_type_struct="H",
            )
        super().stop(command_id, tcp_socket)

    def _check_motion_state(self) -> None:
        if not self._robot.fingers_blocked:
            super()._check_motion_state()

    def _reset_state(self) -> None:
        # Who waited for an answer has gone; the fingers go on to where they were told.
        self._pending_command_id = self._pending_tcp_socket = self._pending_command_type = None


class _Move(MoveCommand):
    def handle(self, server: ArmServer) -> None:
        self.reply(server.start(self))


class _StopMove(StopMoveCommand):
    def handle(self, server: ArmServer) -> None:
        self.reply(MoveStatus.kSuccess)
        server.end(MoveStatus.kPreempted)


class _SetCollisionBehavior(SetCollisionBehaviorCommand):
    """The nominal upper thresholds; they hold while the arm accelerates, too."""

    def handle(self, server: ArmServer) -> None:
        server.torque_thresholds = np.array(self.upper_torque_thresholds_nominal)
        server.force_thresholds = np.array(self.upper_force_thresholds_nominal)
        self.reply(0)


class _SetCartesianImpedance(SetCartesianImpedanceCommand):
    def handle(self, server: ArmServer) -> None:
        server.arm.cartesian_stiffness = np.array(self.K_x)
        self.reply(0)


class _AutomaticErrorRecovery(AutomaticErrorRecoveryCommand):
    def handle(self, server: ArmServer) -> None:
        server.recover(self)


class _SetLoad(SetLoadCommand):
    def handle(self, server: ArmServer) -> None:
        server.arm.set_load(self.m_load, np.array(self.F_x_Cload), np.array(self.I_load))
        self.reply(0)


class _SetNEToEE(SetNEToEECommand):
    def handle(self, server: ArmServer) -> None:
        server.arm.set_end_effector(pose_matrix(self.NE_T_EE))
        self.reply(0)


class _SetEEToK(SetEEToKCommand):
    def handle(self, server: ArmServer) -> None:
        server.arm.set_stiffness_frame(pose_matrix(self.EE_T_K))
        self.reply(0)
