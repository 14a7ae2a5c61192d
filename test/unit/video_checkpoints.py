# SPDX-License-Identifier: Apache-2.0
"""Tiny checkpoints in the published layouts, of the golden set's random weights."""

import json
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file

GOLDEN = Path(__file__).parents[1] / "golden_video"
HEADS = 4


def weights(model, prefix=""):
    """Weights of a model of the golden set under their published names."""
    held = load_file(GOLDEN / "weights_A.safetensors")
    return {
        prefix + key.removeprefix(f"{model}/"): value
        for key, value in held.items()
        if key.startswith(f"{model}/")
    }


def backbone(path):
    """Write encoders and mask predictor, as in `vitl.pt`, with the geometry beside them."""
    encoder = weights("enc_clip", "module.backbone.")
    # To tell which of the two was read.
    online = {
        **encoder,
        "module.backbone.norm.weight": 1.25 * encoder["module.backbone.norm.weight"],
    }
    content = {
        "target_encoder": encoder,
        "encoder": online,
        "predictor": weights("mask_pred", "module.backbone."),
        "epoch": 3,
    }
    torch.save(content, path)
    geometry = {"image_size": 64, "encoder_head_dim": 16, "predictor_head_dim": 24}
    path.with_suffix(".json").write_text(json.dumps(geometry))
    return path


def probe(path, model="probe_ssv2"):
    """Write a probe, as in `ssv2-vitl-16x2x3.pt`."""
    torch.save({"classifiers": [weights(model, "module.")], "epoch": 20}, path)
    return path


def frames(count=40, height=96, width=128):
    """Frames uint8 RGB [count, height, width, 3] of which no two are alike."""
    t, y, x, c = np.ogrid[:count, :height, :width, :3]
    return ((3 * x + 2 * y + 9 * t + 40 * c) % 256).astype(np.uint8)


def video_file(path, pictures=None, rate=30.0):
    """Write frames as a video file."""
    pictures = frames() if pictures is None else pictures
    size = pictures.shape[2], pictures.shape[1]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), rate, size)
    assert writer.isOpened()
    for picture in pictures:
        writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    writer.release()
    return path
