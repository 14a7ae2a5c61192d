# SPDX-License-Identifier: Apache-2.0
"""Training of the small world model: collect, pre-train, freeze, train the predictor, read out."""
