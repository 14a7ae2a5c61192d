# SPDX-License-Identifier: Apache-2.0
"""Every setting of the package, declared once with its default, unit, range and meaning. No ROS."""
