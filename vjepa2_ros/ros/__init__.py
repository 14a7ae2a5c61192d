# SPDX-License-Identifier: Apache-2.0
"""The node framework: managed nodes, parameters, diagnostics, QoS profiles, message conversions."""
