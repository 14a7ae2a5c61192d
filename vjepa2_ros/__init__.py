# SPDX-License-Identifier: Apache-2.0
"""ROS 2 control with V-JEPA 2-AC: a goal image in, a robot that moves there.

This file imports nothing: the message generator adds ``vjepa2_ros.msg`` and
``vjepa2_ros.srv`` next to it, and the core below must load where no ROS is installed.
"""
