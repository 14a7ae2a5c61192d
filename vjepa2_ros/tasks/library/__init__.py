# SPDX-License-Identifier: Apache-2.0
"""One file a task; see `vjepa2_ros.tasks`."""
