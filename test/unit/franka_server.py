# SPDX-License-Identifier: Apache-2.0
"""A simulated Franka control interface in a process of its own, on request with faults.

It writes "ready" once it serves, and its log of the commands that it gets to the standard error.
"""

import argparse
import logging
import struct
from dataclasses import replace

from franky_sim import BaseRobot, SimulationServer
from franky_sim import franka_server as protocol
from franky_sim.franka_robot_protocol import RobotMode
from franky_sim.franka_robot_server import FrankaRobotServer
from franky_sim.mujoco_simulator import MujocoSimulator


def refuse(version):
    """Let the server refuse every client as one of another version."""

    def handle(self, server, command_type_struct="I"):
        header = protocol.MessageHeader(self.command_type, self.command_id, 8)
        status = protocol.ConnectStatus.kIncompatibleLibraryVersion
        answer = struct.pack("<HH4x", status, version)
        self.client_socket.sendall(header.to_bytes(command_type_struct) + answer)

    protocol.ConnectCommand.handle = handle


def report(mode):
    """Let the server report a mode of the robot."""
    true = FrankaRobotServer.robot_state.fget
    FrankaRobotServer.robot_state = property(lambda self: replace(true(self), robot_mode=mode))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--refuse", type=int)
    parser.add_argument("--mode", choices=RobotMode.__members__)
    parser.add_argument("--joints", type=float, nargs=7)
    parser.add_argument("--not-homed", action="store_true")
    parser.add_argument("--no-gripper", action="store_true")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    if arguments.refuse is not None:
        refuse(arguments.refuse)
    if arguments.mode is not None:
        report(RobotMode[arguments.mode])
    if arguments.no_gripper:
        BaseRobot.has_gripper = False
    simulator = MujocoSimulator()
    simulator.init()
    simulator.add_robot(**({"initial_q": arguments.joints} if arguments.joints else {}))
    with SimulationServer(simulator, [arguments.address]) as server:
        if arguments.not_homed:
            server.robot_servers[0].gripper_server._max_width = 0.0
        print("ready", flush=True)
        server.run_forever()


if __name__ == "__main__":
    main()
