# SPDX-License-Identifier: Apache-2.0
"""Planning with a world model: objective, optimiser, receding-horizon loop."""
