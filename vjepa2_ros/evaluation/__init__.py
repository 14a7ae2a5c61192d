# SPDX-License-Identifier: Apache-2.0
"""Closed-loop trials in the simulated cell, without ROS."""

MOST_SHARDS = 10_000
"""Parts into which an evaluation can be divided."""
