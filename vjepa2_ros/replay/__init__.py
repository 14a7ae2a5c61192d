# SPDX-License-Identifier: Apache-2.0
"""Recorded runs through encoder, planner and gate once more, judged by gates; no ROS, no clock."""
