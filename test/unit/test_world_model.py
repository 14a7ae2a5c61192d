# SPDX-License-Identifier: Apache-2.0
"""Encoding, imagination and the name of a model."""

import numpy as np
import pytest
import torch
from small_model import small_encoder, small_predictor, small_world_model

from vjepa2_ros.planning.objective import LatentDistance, distance
from vjepa2_ros.world_model.encoder import normalise
from vjepa2_ros.world_model.poses import compose
from vjepa2_ros.world_model.preprocessing import preprocess
from vjepa2_ros.world_model.world_model import WorldModel

IMAGE = np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    return small_world_model()


def scene(model, samples=6, horizon=3):
    torch.manual_seed(0)
    return model.encode(IMAGE), torch.rand(7), 0.1 * torch.randn(samples, horizon, 7)


@torch.no_grad()
def test_an_image_is_encoded_by_preprocessing_and_encoder(model):
    latent = model.encode(IMAGE)
    assert latent.shape == model.latent_shape == (16, 48)
    torch.testing.assert_close(latent, model.encoder(preprocess(IMAGE, 64, 1.35)[None])[0])


@torch.no_grad()
def test_each_step_sees_the_whole_imagined_history(model):
    latent, state, actions = scene(model)
    latents = latent.expand(6, 16, 48)
    states = state.expand(6, 1, 7)
    for step in range(3):
        predicted = normalise(model.predictor(latents, actions[:, : step + 1], states)[:, -16:])
        latents = torch.cat([latents, predicted], dim=1)
        states = torch.cat([states, compose(states[:, -1:], actions[:, step : step + 1])], dim=1)
    torch.testing.assert_close(model.rollout(latent, state, actions), predicted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("chunk", [1, 4, 6, 100])
def test_chunks_change_nothing(model, chunk):
    latent, state, actions = scene(model)
    whole = model.rollout(latent, state, actions)
    torch.testing.assert_close(
        model.rollout(latent, state, actions, chunk), whole, atol=1e-5, rtol=0
    )
    goal = torch.zeros(16, 48)
    energies = LatentDistance(model, latent, state, goal, chunk=chunk)(actions)
    torch.testing.assert_close(energies, distance(whole, goal), atol=1e-5, rtol=0)


def test_nothing_records_gradients_and_latents_may_be_trained_on(model):
    latent, state, actions = scene(model)
    imagined = model.rollout(latent, state, actions)
    assert not latent.requires_grad and not imagined.requires_grad
    weight = torch.ones(48, requires_grad=True)
    (latent * weight).sum().backward()
    assert weight.grad is not None


def test_shapes_that_do_not_fit_are_refused(model):
    latent, state, actions = scene(model)
    with pytest.raises(ValueError, match=r"latent has shape \[15, 48\]"):
        model.rollout(latent[1:], state, actions)
    with pytest.raises(ValueError, match="wanted state"):
        model.rollout(latent, state[:6], actions)
    with pytest.raises(ValueError, match="wanted state"):
        model.rollout(latent, state, actions[:, 0])


def test_encoder_and_predictor_of_different_grids_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 4, 48\).*\(8, 8, 48\)"):
        WorldModel(small_encoder(64), small_predictor(128))


def test_the_fingerprint_names_weights_and_configuration():
    first, again, other = small_world_model(1), small_world_model(1), small_world_model(2)
    assert first.fingerprint == again.fingerprint and len(first.fingerprint) == 16
    assert first.fingerprint != other.fingerprint
    cropped = WorldModel(first.encoder, first.predictor, crop_aspect=1.0)
    assert cropped.fingerprint != first.fingerprint
    renamed = WorldModel(first.encoder, first.predictor, name="renamed")
    assert renamed.fingerprint == first.fingerprint


def test_distances_are_means_over_patches_and_channels():
    latent, goal = torch.full((2, 16, 48), 3.0), torch.ones(16, 48)
    assert distance(latent, goal).tolist() == [2.0, 2.0]
    assert distance(latent, goal, "l2").tolist() == [4.0, 4.0]
    with pytest.raises(ValueError, match="unknown cost 'cosine'"):
        distance(latent, goal, "cosine")


def test_an_objective_that_cannot_be_is_refused(model):
    latent, state, _ = scene(model)
    with pytest.raises(ValueError, match="unknown cost"):
        LatentDistance(model, latent, state, latent, cost="l3")
    with pytest.raises(ValueError, match="chunk"):
        LatentDistance(model, latent, state, latent, chunk=0)
    with pytest.raises(ValueError, match="goal has shape"):
        LatentDistance(model, latent, state, latent[:4])
