# SPDX-License-Identifier: Apache-2.0
"""Rivals of the planner: what else decides in the same loop, on the same pictures.

Each policy differs from the planner in its decisions alone: sub-goals, steps, scripted gripper,
workspace and targets are those of the same receding-horizon loop. So the difference between two
policies says what the planner, or the world model, is worth. Nothing heavy is imported here.
"""

POLICIES = ("planner", "none", "random", "oracle", "readout", "linear", "cloning")
"""Names for `policy.make_policy`."""
