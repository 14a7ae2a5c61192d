# SPDX-License-Identifier: Apache-2.0
"""The training loop: which optimiser trains what, and runs that go on where they stopped."""

import numpy as np
import pytest
import torch
from torch import nn

from vjepa2_ros.training.loop import LoopConfig, train
from vjepa2_ros.training.predictor_training import Rollout, start_as_identity
from vjepa2_ros.world_model.predictor import ActionConditionedPredictor, PredictorConfig


def predictor():
    torch.manual_seed(0)
    made = ActionConditionedPredictor(
        PredictorConfig((64, 64), 16, 48, predictor_embed_dim=48, depth=2, num_heads=2)
    )
    start_as_identity(made)
    return made


def losses_of(module):
    def losses(random, progress):
        latents = nn.functional.layer_norm(
            torch.from_numpy(random.normal(size=(2, 3, 16, 48))).float(), (48,)
        )
        return module.losses(latents, torch.from_numpy(random.normal(size=(2, 3, 7))).float())

    return losses


def trained(config, folder):
    module = Rollout(predictor())
    train("predictor", module, losses_of(module), config, folder)
    return module.predictor


@pytest.mark.parametrize("still", ["matrices", "others"])
def test_muon_trains_the_matrices_of_the_blocks_and_adamw_everything_else(still, tmp_path):
    rates = {"learning_rate": 1e-3, "matrix_learning_rate": 1e-2}
    rates["matrix_learning_rate" if still == "matrices" else "learning_rate"] = 0.0
    before = predictor().state_dict()
    after = trained(LoopConfig(2, warmup=1, **rates), tmp_path).state_dict()
    changed = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    matrices = {
        name for name, weight in after.items() if "blocks" in name and weight.ndim == 2
    }
    unused = {name for name in after if "extrinsics" in name}
    assert len(matrices) == 8
    assert changed - unused == (
        set(after) - matrices - unused if still == "matrices" else matrices
    )


def test_without_a_rate_of_its_own_adamw_trains_the_matrices_as_well(tmp_path):
    before = predictor().state_dict()
    after = trained(LoopConfig(2, warmup=1), tmp_path).state_dict()
    assert not torch.equal(
        after["predictor_blocks.0.mlp.fc1.weight"], before["predictor_blocks.0.mlp.fc1.weight"]
    )


def test_an_interrupted_run_with_two_optimisers_ends_as_an_uninterrupted_one(tmp_path):
    config = LoopConfig(6, matrix_learning_rate=1e-2, warmup=2, checkpoint_every=2)
    whole = trained(config, tmp_path / "whole")
    module = Rollout(predictor())
    losses, seen = losses_of(module), []

    def interrupted(random, progress):
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(progress)
        return losses(random, progress)

    with pytest.raises(KeyboardInterrupt):
        train("predictor", module, interrupted, config, tmp_path / "parts")
    resumed = trained(config, tmp_path / "parts")
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)
    lines = [(tmp_path / part / "predictor.jsonl").read_text() for part in ("whole", "parts")]
    assert lines[0] == lines[1] and lines[0].count("\n") == 6


@pytest.mark.parametrize("squared", [False, True])
def test_a_predictor_that_copies_has_the_distance_of_two_frames_as_its_loss(squared):
    module = Rollout(predictor(), squared)
    with torch.no_grad():
        for block in module.predictor.predictor_blocks:
            for branch in (block.attn.proj, block.mlp.fc2):
                branch.weight.zero_()
    random = np.random.default_rng(0)
    latents = nn.functional.layer_norm(
        torch.from_numpy(random.normal(size=(2, 3, 16, 48))).float(), (48,)
    )
    with torch.no_grad():
        values = module.losses(latents, torch.zeros(2, 3, 7))
    step = latents[:, 1:] - latents[:, :-1]
    expected = step.square().mean() if squared else step.abs().mean()
    assert values["teacher"] == pytest.approx(float(expected), rel=1e-4)
    assert values["relative_to_copy"] == pytest.approx(1.0, rel=1e-4)
