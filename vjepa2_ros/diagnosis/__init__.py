# SPDX-License-Identifier: Apache-2.0
"""Why a task fails: representation, predictor and search measured apart, against the simulator."""
