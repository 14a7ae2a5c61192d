# SPDX-License-Identifier: Apache-2.0
"""What the stack does when something fails.

Faults are injected into running processes in mid-motion; time and way to rest are measured on the
true pose of the arm.
"""
