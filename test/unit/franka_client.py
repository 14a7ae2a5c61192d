# SPDX-License-Identifier: Apache-2.0
"""A client of the Franka control interface that moves up and down until it is killed."""

import sys

import franky

robot = franky.Robot(
    sys.argv[1], relative_dynamics_factor=0.05, realtime_config=franky.RealtimeConfig.Ignore
)
start = robot.state.O_T_EE
up = franky.Affine([*start.translation[:2], start.translation[2] + 0.1], start.quaternion)
while True:
    for pose in (up, start):
        robot.move(franky.CartesianMotion(pose, franky.ReferenceType.Absolute))
