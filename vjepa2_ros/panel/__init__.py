# SPDX-License-Identifier: Apache-2.0
"""A page in the browser: to watch a stack and to set goals, for those without RViz."""
