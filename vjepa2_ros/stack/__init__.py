# SPDX-License-Identifier: Apache-2.0
"""The running stack seen from outside: its processes, a client, an observer, a recorder."""
