# SPDX-License-Identifier: Apache-2.0
"""Video clips: embeddings, action labels and what happens next, by V-JEPA 2's encoders."""
