# SPDX-License-Identifier: Apache-2.0
"""What the stack sees, plans and does, as shapes and pictures for any viewer; no ROS."""
