# SPDX-License-Identifier: Apache-2.0
"""Goal execution: which observation is planned from, and what happens to a plan. No ROS."""
