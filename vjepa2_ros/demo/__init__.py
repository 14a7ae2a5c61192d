# SPDX-License-Identifier: Apache-2.0
"""`vjepa2-ros demo`: the whole loop on the simulated robot, watched, recorded and reported."""
