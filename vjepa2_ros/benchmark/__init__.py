# SPDX-License-Identifier: Apache-2.0
"""What plans and their computation cost, measured: no test asserts a time."""
