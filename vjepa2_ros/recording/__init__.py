# SPDX-License-Identifier: Apache-2.0
"""Bags of a stack: message definitions to write them with, and what is read out of them; no ROS."""
