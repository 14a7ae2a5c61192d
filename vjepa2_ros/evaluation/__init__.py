# SPDX-License-Identifier: Apache-2.0
"""Closed-loop trials in the simulated cell, without ROS."""
