# SPDX-License-Identifier: Apache-2.0
"""Whether robot, network and computer are fit for a first motion, found out without any motion.

Each file is one group of checks. A check takes what it judges as plain data and returns a
`Finding`; what measures stands beside it. Nothing here imports ROS.
"""
