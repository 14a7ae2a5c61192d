# SPDX-License-Identifier: Apache-2.0
"""The robot as the rest of the package sees it, and the gate that every command passes."""
