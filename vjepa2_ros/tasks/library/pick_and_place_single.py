# SPDX-License-Identifier: Apache-2.0
"""Pick-and-place from the last picture alone."""

from vjepa2_ros.tasks.library.pick_and_place import PickAndPlace

TASK = PickAndPlace(single=True)
