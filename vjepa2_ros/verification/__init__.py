# SPDX-License-Identifier: Apache-2.0
"""Comparison of this package with tensors of the reference implementation."""
