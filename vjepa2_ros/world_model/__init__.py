# SPDX-License-Identifier: Apache-2.0
"""The world model: images to latents, latents and actions to predicted latents."""
