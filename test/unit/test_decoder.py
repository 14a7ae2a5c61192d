# SPDX-License-Identifier: Apache-2.0
"""The decoder: latents to pictures."""

import numpy as np
import pytest
import torch
from small_model import small_world_model

from vjepa2_ros.world_model.checkpoint import load_world_model, save_world_model
from vjepa2_ros.world_model.decoder import PatchDecoder
from vjepa2_ros.world_model.preprocessing import preprocess, to_image
from vjepa2_ros.world_model.world_model import WorldModel

CONFIG = {"channels": 48, "image_size": 64, "patch_size": 16}


def images(count=5):
    return np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), np.uint8)


def test_an_image_comes_back_from_its_preprocessed_frame():
    image = images(1)[0]
    np.testing.assert_array_equal(to_image(preprocess(image, 64, 1.0)), image)


def test_without_weights_it_shows_the_background_that_it_observed():
    decoder = PatchDecoder(CONFIG)
    frames = preprocess(images(), 64)
    decoder.observe(frames)
    torch.nn.init.zeros_(decoder.patch.weight)
    torch.nn.init.zeros_(decoder.patch.bias)
    torch.testing.assert_close(decoder(torch.randn(2, 16, 48))[1], frames.median(dim=0).values)
    assert decoder.loss(torch.randn(5, 16, 48), frames).item() == pytest.approx(1.0, abs=0.2)


def test_each_token_draws_its_own_patch():
    decoder = PatchDecoder(CONFIG)
    latent = torch.zeros(16, 48)
    changed = latent.clone()
    changed[5] = 3.0  # row 1, column 1
    difference = (decoder(changed[None]) - decoder(latent[None]))[0].abs().sum(dim=0)
    assert difference[16:32, 16:32].min() > 0
    difference[16:32, 16:32] = 0
    assert difference.max() == 0


def test_it_learns_to_show_what_it_is_shown():
    torch.manual_seed(0)
    decoder, frames = PatchDecoder(CONFIG), preprocess(images(4), 64)
    decoder.observe(frames)
    latents = torch.randn(4, 16, 48)
    optimiser = torch.optim.Adam(decoder.parameters(), 0.02)
    first = decoder.loss(latents, frames).item()
    for _ in range(100):
        optimiser.zero_grad()
        loss = decoder.loss(latents, frames)
        loss.backward()
        optimiser.step()
    assert loss.item() < first / 3
    assert decoder.picture(latents[0]).dtype == np.uint8


@pytest.mark.parametrize(
    "config",
    [
        {"channels": 48, "image_size": 64},
        {**CONFIG, "depth": 2},
        {**CONFIG, "patch_size": 15},
        {**CONFIG, "channels": 0},
    ],
)
def test_a_configuration_that_is_none_is_refused(config):
    with pytest.raises(ValueError):
        PatchDecoder(config)


def test_it_travels_with_the_checkpoint_and_is_loaded_when_all_parts_are_asked_for(tmp_path):
    model, decoder = small_world_model(), PatchDecoder(CONFIG)
    decoder.observe(preprocess(images(), 64))
    parts = {"decoder": decoder}
    save_world_model(WorldModel(model.encoder, model.predictor, parts=parts), tmp_path, {})
    assert load_world_model(tmp_path).parts == {}
    loaded = load_world_model(tmp_path, parts=None)
    torch.testing.assert_close(loaded.parts["decoder"].state_dict(), decoder.state_dict())
    latent = model.encode(images(1)[0])
    np.testing.assert_array_equal(
        loaded.parts["decoder"].picture(latent), decoder.picture(latent)
    )
