# SPDX-License-Identifier: Apache-2.0
"""What the stack does when something fails: faults are injected into running processes in mid-motion,
and the time and the way to rest are measured on the true pose of the arm."""
