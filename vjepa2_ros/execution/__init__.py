# SPDX-License-Identifier: Apache-2.0
"""Goal execution: which observation is planned from, and what becomes of a plan. No ROS."""
