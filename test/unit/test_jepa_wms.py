# SPDX-License-Identifier: Apache-2.0
"""The retrained predictors of jepa-wms: a file without an encoder, and predictions of two latents.

Their exactness is compared by `vjepa2-ros verify` with a set that is not part of the project.
"""

import json
from dataclasses import replace

import pytest
import torch
import video_checkpoints as tiny

from vjepa2_ros.planning.planners import make_planner
from vjepa2_ros.planning.receding_horizon import make_loop
from vjepa2_ros.settings.files import resolve
from vjepa2_ros.world_model.checkpoint import load_world_model, save_world_model
from vjepa2_ros.world_model.encoder import normalise
from vjepa2_ros.world_model.poses import compose
from vjepa2_ros.world_model.predictor import ActionConditionedPredictor, PredictorConfig
from vjepa2_ros.world_model.validation import CheckpointError


def write(folder, states=False, geometry=(), **options):
    """Write a predictor in the layout of `vjepa2_ac_droid.pth.tar`, with the encoder apart."""
    tiny.backbone(folder / "vitg.pt")
    torch.manual_seed(0)
    config = PredictorConfig((64, 64), 16, 64, 48, 2, 2, 8, 2, use_states=states, **options)
    weights = ActionConditionedPredictor(config).state_dict()
    # Larger than at the start of a training, so that actions change something.
    weights = {name: 3 * w if "encoder" in name else w for name, w in weights.items()}
    named = {
        "module." + name.replace("state_encoder", "proprio_encoder"): weight
        for name, weight in weights.items()
        if not name.startswith("extrinsics")
    }
    torch.save({"predictor": named, "opt": {}, "scaler": None, "epoch": 1}, folder / "ac.pt")
    given = {"encoder_file": "vitg.pt", "image_size": 64, "encoder_head_dim": 16,
             "predictor_head_dim": 24, "window": 2, **dict(geometry)}  # fmt: skip
    (folder / "ac.json").write_text(json.dumps(given))
    return folder / "ac.pt"


@pytest.mark.parametrize("states", [False, True])
def test_predictor_and_encoder_come_from_their_files(tmp_path, states):
    model = load_world_model(write(tmp_path, states))
    assert model.predictor.config.use_states is states
    assert model.predictor.config.conditioning_tokens == 1 + states
    # The square crop of its own training, and the encoder that is named `encoder`.
    assert model.crop_aspect == 1.0
    online = tiny.weights("enc_clip")["norm.weight"] * 1.25
    assert torch.equal(model.encoder.model.encoder.layernorm.weight, online)


def test_a_state_makes_no_difference_without_its_token(tmp_path):
    model = load_world_model(write(tmp_path))
    latent, actions = normalise(torch.randn(16, 64)), 0.05 * torch.randn(3, 2, 7)
    once, elsewhere = (model.rollout(latent, s, actions) for s in (torch.zeros(7), torch.ones(7)))
    assert torch.equal(once, elsewhere)
    assert not torch.allclose(once[0], once[1], atol=1e-4)


def test_a_prediction_attends_to_the_last_two_latents_alone(tmp_path):
    model = load_world_model(write(tmp_path, states=True))
    latent, state = normalise(torch.randn(16, 64)), torch.zeros(7)
    actions = 0.05 * torch.randn(2, 3, 7)
    steps = model.rollout(latent, state, actions, every_step=True)
    assert torch.equal(steps[:, -1], model.rollout(latent, state, actions))
    states = compose(state.expand(2, 1, 7), actions[:, :1])
    states = torch.cat([states, compose(states, actions[:, 1:2])], dim=1)
    with torch.no_grad():
        raw = model.predictor(steps[:, :2].flatten(1, 2), actions[:, 1:], states)
    assert torch.allclose(steps[:, 2], normalise(raw[:, -16:]), atol=1e-5)
    with pytest.raises(ValueError, match="nothing to keep of past frames"):
        model.prefill(latent[None], state[None], actions[0, :1])


def test_it_plans(tmp_path):
    model = load_world_model(write(tmp_path))
    settings = resolve().settings.planner
    loop = make_loop(settings, make_planner(settings.search), model, torch.randn(1, 16, 64), [2])
    step = loop.step(normalise(torch.randn(16, 64)), torch.tensor([0.5, 0, 0.3, 3.1, 0, 0, 0.0]))
    assert step.action.isfinite().all() and step.action[:3].abs().sum() > 0
    with_past = replace(settings, loop=replace(settings.loop, context=2))
    with pytest.raises(ValueError, match="set context to 1"):
        make_loop(with_past, make_planner(settings.search), model, torch.randn(1, 16, 64))


@pytest.mark.parametrize("modulated", [False, True])
def test_it_is_kept_in_our_own_layout(tmp_path, modulated):
    model = load_world_model(write(tmp_path, modulated=modulated))
    assert model.predictor.config.modulated is modulated
    save_world_model(model, tmp_path / "ours", {})
    again = load_world_model(tmp_path / "ours")
    assert again.fingerprint == model.fingerprint
    assert again.predictor.config == model.predictor.config


@pytest.mark.parametrize(
    "geometry, text",
    [
        ({"encoder_file": ""}, "name that as encoder_file in .*ac.json"),
        ({"encoder_file": "absent.pt"}, "wants its encoder in .*absent.pt, which is not there"),
        ({"encoder_part": "teacher"}, "lacks encoder"),
        ({"encoder_part": 7}, "encoder_part must be a text"),
        ({"window": -1}, "window"),
    ],
)
def test_an_encoder_that_is_not_there_is_named(tmp_path, geometry, text):
    with pytest.raises(CheckpointError, match=text):
        load_world_model(write(tmp_path, geometry=geometry.items()))
