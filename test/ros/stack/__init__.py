# SPDX-License-Identifier: Apache-2.0
"""A package, so that the stack of these tests ends with the last of them (scope `package`)."""
